"""A list of strings as two flat arrays, so that it can live in a memory-mapped file and decode one entry at a time."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from unicodedata import category

import numpy as np


def clean(text: str) -> str:
    """Return a text without control, direction-changing and unpaired surrogate characters; white space stays.

    Such characters break XML, tables and terminals, and nothing medical is written with them.
    """
    if text.isprintable():
        return text
    return "".join(char for char in text if char.isspace() or category(char) not in _UNWANTED)


def clean_line(text: str) -> str:
    """The same in one line: for names."""
    return text if text.isprintable() else " ".join(clean(text).splitlines())


# Unicode categories: control, format (such as right-to-left override), surrogate.
_UNWANTED = frozenset(("Cc", "Cf", "Cs"))


class StringTable:
    """Immutable strings: entry k is `data[offsets[k]:offsets[k + 1]]`, UTF-8."""

    __slots__ = ("_data", "_offsets")

    def __init__(self, offsets: np.ndarray, data: np.ndarray) -> None:
        self._offsets = offsets
        self._data = data

    @classmethod
    def pack(cls, texts: Iterable[str]) -> "StringTable":
        """Return a table of the given strings."""
        encoded = [text.encode() for text in texts]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(text) for text in encoded], out=offsets[1:])
        return cls(offsets, np.frombuffer(b"".join(encoded), dtype=np.uint8))

    @property
    def offsets(self) -> np.ndarray:
        """(n + 1,) int64 byte offsets."""
        return self._offsets

    @property
    def data(self) -> np.ndarray:
        """uint8 bytes of all strings."""
        return self._data

    def raw(self, index: int) -> bytes:
        """Return entry `index` as UTF-8 bytes."""
        return self._data[self._offsets[index] : self._offsets[index + 1]].tobytes()

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> str:
        return self.raw(index).decode()

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_list())

    def to_list(self) -> list[str]:
        """Return all strings, decoded at once."""
        blob, bounds = self._data.tobytes(), self._offsets.tolist()
        return [blob[start:stop].decode() for start, stop in pairwise(bounds)]

    def find(self, text: str) -> int:
        """Return the position of `text` in a table sorted by UTF-8 bytes, or -1."""
        wanted = text.encode()
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.raw(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self.raw(low) == wanted else -1
