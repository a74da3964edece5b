"""A small memory of what equal bytes were read as: slices of one series repeat nearly all of their header."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")
_LIMIT = 256


class Recent(Generic[Value]):
    """The last values by key; forgets everything when full, which costs little and needs no bookkeeping."""

    def __init__(self) -> None:
        self._values: dict[Hashable, Value] = {}

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return what `key` was made into before, or make it now. What raises is not remembered."""
        known = self._values.get(key)
        if known is None:
            known = make()
            if len(self._values) >= _LIMIT:
                self._values.clear()
            self._values[key] = known
        return known
