"""Rows of delimited files with the columns a reader needs, checked before any work."""

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from kg.errors import SourceError
from kg.sources.opening import open_text

# The longest field that real files have (definitions, synonym lists), with room to spare.
MAX_FIELD_CHARACTERS = 4 * 1024**2


def read_rows(
    path: Path, needed: Sequence[str], *, delimiter: str = "\t", is_quoted: bool = False
) -> Iterator[dict[str, str]]:
    """Yield rows by column name; trailing fields that no reader needs may be missing and are then empty.

    Raises:
        SourceError: If a needed column is not in the header, a row has more cells than the header or ends before a
            needed one (as the last of a cut file does), a quote is never closed, or the file is not delimited text.
    """
    csv.field_size_limit(min(MAX_FIELD_CHARACTERS, sys.maxsize))
    with open_text(path) as stream:
        reader = csv.DictReader(
            stream,
            delimiter=delimiter,
            restval=None,
            quoting=csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE,
            strict=is_quoted,
        )
        try:
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise SourceError(
                    f"Expected the columns {', '.join(needed)} in {path.name} ({', '.join(missing)} missing).",
                    remedy="Check the file's format and delimiter.",
                )
            for row in reader:
                if any(row.get(None) or ()):  # type: ignore[call-overload]  # where the csv module puts surplus cells
                    raise SourceError(
                        f"Expected no more cells than columns in line {reader.line_num} of {path.name}.",
                        remedy='Put a cell that holds the delimiter into quotes ("...").',
                    )
                if any(row[name] is None for name in needed):
                    raise SourceError(
                        f"Expected a whole row in line {reader.line_num} of {path.name} (it ends early).",
                        remedy="Fetch the file again; it may be cut.",
                    )
                yield {name: value or "" for name, value in row.items() if isinstance(name, str)}
        except csv.Error as error:
            raise SourceError(f"Expected delimited text in {path.name} ({error}).") from error
