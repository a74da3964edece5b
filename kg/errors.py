"""Everything kg raises on purpose.

    KgError
    ├── SourceError    a source is missing, damaged, unsafe or in another format (kg.load, kg.unsafe_xml)
    ├── GraphError     a graph file is torn, from another version, or fails a check (kg.quality, kg.version)
    └── LimitError     a search or a file would pass its cap (limit.kg)

Codes are those of BAD_INPUTS section F and match `medmm.errors.CODES`, so that the command line can pass them on.
"""

CODES = ("kg.load", "kg.unsafe_xml", "kg.quality", "kg.no_match", "kg.version", "limit.kg")


class KgError(Exception):
    """A code, one sentence on what is wrong, one on what to do."""

    def __init__(self, message: str, *, code: str, remedy: str = "") -> None:
        if code not in CODES:
            raise ValueError(f"Expected one of {', '.join(CODES)} (got {code!r}).")
        super().__init__(message)
        self.message = message
        self.code = code
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders; the default would lose the keyword arguments.
        return (_rebuild, (type(self), self.message, self.code, self.remedy))


class SourceError(KgError):
    """A source cannot be read."""

    def __init__(self, message: str, *, code: str = "kg.load", remedy: str = "") -> None:
        super().__init__(message, code=code, remedy=remedy)


class GraphError(KgError):
    """A graph, or a file that holds one, cannot be trusted."""

    def __init__(self, message: str, *, code: str = "kg.version", remedy: str = "") -> None:
        super().__init__(message, code=code, remedy=remedy)


class LimitError(KgError):
    """A cap was reached before the work was done."""

    def __init__(self, message: str, *, code: str = "limit.kg", remedy: str = "") -> None:
        super().__init__(message, code=code, remedy=remedy)


def _rebuild(kind: type[KgError], message: str, code: str, remedy: str) -> KgError:
    return kind(message, code=code, remedy=remedy)
