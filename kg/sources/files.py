"""Knowledge from files: the format is recognised by name, each has its own reader."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from kg.errors import SourceError
from kg.schema import SourceTables


class FileFormat(NamedTuple):
    """How a format is recognised (a test of the lower-case file name, and how to say it) and where its reader lives."""

    name: str
    names: str
    matches: Callable[[str], bool]
    module: str
    function: str


FORMATS: tuple[FileFormat, ...] = (
    FileFormat("PrimeKG", "kg.csv", lambda name: name in ("kg.csv", "kg.csv.gz"), "kg.sources.primekg", "read_primekg"),
    FileFormat(
        "Hetionet",
        "hetionet*.json, hetionet*nodes.tsv",
        lambda name: name.startswith("hetionet") and name.removesuffix(".gz").endswith((".json", ".tsv")),
        "kg.sources.hetionet",
        "read_hetionet",
    ),
    FileFormat(
        "OBO", "*.obo", lambda name: name.removesuffix(".gz").endswith(".obo"), "kg.sources.obo_file", "read_obo"
    ),
    FileFormat(
        "obographs",
        "*.json",
        lambda name: name.removesuffix(".gz").endswith(".json"),
        "kg.sources.obographs",
        "read_obographs",
    ),
    FileFormat("OWL", "*.owl", lambda name: name.endswith((".owl", ".rdf", ".xml")), "kg.sources.owl", "read_owl"),
    FileFormat(
        "KGX", "*nodes.tsv", lambda name: name.removesuffix(".gz").endswith("nodes.tsv"), "kg.sources.kgx", "read_kgx"
    ),
    FileFormat(
        "SSSOM",
        "*.sssom.tsv",
        lambda name: name.removesuffix(".gz").endswith(".sssom.tsv"),
        "kg.sources.sssom",
        "read_sssom",
    ),
    FileFormat(
        "own knowledge", "*concepts.csv", lambda name: name.endswith("concepts.csv"), "kg.sources.local", "read_local"
    ),
)


# What readers meet in files that are cut, of another encoding, or of another shape than their format has.
_DAMAGE = (EOFError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError)


def read_file(path: Path) -> SourceTables:
    """Return the records of a knowledge file, or of a folder with UMLS RRF files.

    Raises:
        SourceError: If the file is missing, of no known format, empty, damaged or unsafe.
    """
    if not path.exists():
        raise SourceError(f"Expected a knowledge file at {path.name} (not found).", remedy="Check the path.")
    reader = _reader(path)
    try:
        tables = reader(path)
    except UnicodeDecodeError as error:
        raise SourceError(
            f"Expected text in UTF-8 in {path.name} (byte {error.start} of a block is not).",
            remedy="Save it as UTF-8 (in Excel: CSV UTF-8), or fetch it again.",
        ) from error
    except _DAMAGE as error:
        raise SourceError(
            f"Expected a whole, readable file in {path.name} ({type(error).__name__}).", remedy="Fetch it again."
        ) from error
    if not tables.concepts and not tables.mappings:
        raise SourceError(f"Expected concepts in {path.name} (found none).", remedy="Check that the format is right.")
    return tables


def _reader(path: Path) -> Callable[[Path], SourceTables]:
    if path.is_dir():
        from kg.sources.umls import read_umls

        return read_umls
    for one in FORMATS:
        if one.matches(path.name.lower()):
            reader: Callable[[Path], SourceTables] = getattr(import_module(one.module), one.function)
            return reader
    known = ", ".join(f"{one.name} ({one.names})" for one in FORMATS)
    raise SourceError(
        f"Expected a knowledge file of a known format (got {path.name}).",
        remedy=f"Known by name: {known}; a folder with MRCONSO.RRF (UMLS). Unpack archives other than .gz.",
    )
