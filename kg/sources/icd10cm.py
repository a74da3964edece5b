"""ICD-10-CM: codes, titles, inclusion terms and the hierarchy, from the tabular list in `simple-icd-10-cm`.

Chapter 20 (external causes) is left out: it names circumstances, not diseases. The tabular list is a work of the US
government (CDC/NCHS) in the public domain.
"""

from kg.schema import SUBCLASS_OF, ConceptRecord, RelationRecord, Source, SourceTables, Synonym
from kg.sources.installed import installed_files, installed_fingerprint
from kg.xml_guard import iterate_xml

DISTRIBUTION = "simple-icd-10-cm"
FILES = ("simple_icd_10_cm/data/icd10c-tabular-*.xml",)
EXTERNAL_CAUSES = "20"


def fingerprint() -> str:
    """Return the identity of the installed file."""
    return installed_fingerprint(DISTRIBUTION, FILES)


def read() -> SourceTables:
    """Return codes (with inclusion terms as synonyms) and subclass relations."""
    path = installed_files(DISTRIBUTION, FILES)[FILES[0]]
    release = path.stem.removeprefix("icd10c-tabular-")
    source = Source(
        name="icd10cm",
        version=release,
        licence="US public domain (CDC/NCHS)",
        trust=0.9,
        citation="ICD-10-CM tabular list, CDC/NCHS",
        url="https://www.cdc.gov/nchs/icd/icd-10-cm",
        fingerprint=fingerprint(),
    )
    tables = SourceTables(source=source)
    parents: list[str] = []
    chapter = ""
    for event, element in iterate_xml(path):
        if event == "start":
            if element.tag == "diag":
                parents.append("")
        elif element.tag == "name" and parents and not parents[-1]:
            parents[-1] = f"ICD10CM:{element.text}"
        elif element.tag == "name" and not parents:
            chapter = element.text or ""
        elif element.tag == "diag":
            code = parents.pop()
            if chapter == EXTERNAL_CAUSES:
                tables.defects["codes of external causes"] += 1
            else:
                _add(
                    tables,
                    code,
                    element.findtext("desc") or "",
                    [n.text for n in element.findall("inclusionTerm/note")],
                )
                if parents:
                    tables.relations.append(RelationRecord(code, SUBCLASS_OF, parents[-1]))
            element.clear()
    return tables


def _add(tables: SourceTables, code: str, title: str, inclusions: list[str | None]) -> None:
    synonyms = tuple(Synonym(term, "narrow") for term in inclusions if term and term != title)
    tables.concepts.append(ConceptRecord(code, "code", title, synonyms))
