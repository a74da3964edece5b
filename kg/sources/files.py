"""Knowledge from files: the format is recognised by name and content, each has its own reader."""

from collections.abc import Callable
from pathlib import Path

from kg.errors import SourceError
from kg.schema import SourceTables


def read_file(path: Path) -> SourceTables:
    """Return the records of a knowledge file.

    Raises:
        SourceError: If the file is missing, of no known format, damaged or unsafe.
    """
    if not path.exists():
        raise SourceError(f"Expected a knowledge file at {path.name} (not found).", remedy="Check the path.")
    reader = _reader(path)
    try:
        return reader(path)
    except (UnicodeDecodeError, EOFError) as error:
        raise SourceError(
            f"Expected readable text in {path.name} ({error}).", remedy="Fetch the file again."
        ) from error


def _reader(path: Path) -> Callable[[Path], SourceTables]:
    from kg.sources.obo_file import read_obo

    readers: dict[str, Callable[[Path], SourceTables]] = {".obo": read_obo}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise SourceError(
            f"Expected a knowledge file of a known format (got {path.name}).", remedy=f"Known: {', '.join(readers)}."
        )
    return readers[suffix]
