"""The one place where XML is parsed: refuses document types, entities and oversized trees before any is expanded."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from kg.errors import SourceError


def iterate_xml(path: Path) -> Iterator[tuple[str, ET.Element]]:
    """Yield ("start" or "end", element) of an XML file that has no document type declaration.

    Raises:
        SourceError: `kg.unsafe_xml` where a DOCTYPE or an entity is declared, `kg.load` where the XML is damaged.
    """
    refuse_doctype(path)
    try:
        yield from ET.iterparse(path, events=("start", "end"))
    except ET.ParseError as error:
        raise SourceError(
            f"Expected well-formed XML in {path.name} ({error}).", remedy="Fetch the file again; it may be cut."
        ) from error


def refuse_doctype(path: Path) -> None:
    """Raise if the file declares a document type, an entity or an external reference; expand and fetch nothing."""
    parser = expat.ParserCreate()
    is_past_prolog = False

    def refuse(*_: object) -> int:
        raise SourceError(
            f"Expected XML without a DOCTYPE or entities (got one in {path.name}).",
            code="kg.unsafe_xml",
            remedy="Remove the DOCTYPE from the file if you trust its origin.",
        )

    def stop(*_: object) -> None:
        nonlocal is_past_prolog
        is_past_prolog = True

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    parser.StartElementHandler = stop  # a DOCTYPE can only stand before the first element
    try:
        with path.open("rb") as stream:
            while not is_past_prolog and (block := stream.read(65536)):
                parser.Parse(block, False)
    except expat.ExpatError as error:
        raise SourceError(f"Expected XML in {path.name} ({error}).", remedy="Check the file's format.") from error
    if not is_past_prolog:
        raise SourceError(f"Expected XML with a root element in {path.name} (found none).")
