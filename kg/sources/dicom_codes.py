"""Coded anatomy, imaging findings and modalities of DICOM PS3.16, from the tables in pydicom.

Context groups taken: anatomy (8134 and the regions of 4, 4031), chest findings (6103-6106), breast pathology (6030),
breast findings (6054), modalities (29). Codes are SNOMED CT (the set that DICOM may use freely) or DICOM's own.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from kg.errors import SourceError
from kg.schema import ConceptRecord, Source, SourceTables
from kg.sources.installed import installed_files, installed_fingerprint, installed_version

DISTRIBUTION = "pydicom"
FILES = ("pydicom/sr/_concepts_dict.py", "pydicom/sr/_cid_dict.py")
# Context group -> kind of its members. The first group that holds a concept decides.
GROUPS = {
    29: "modality",
    8134: "anatomy",
    4: "anatomy",
    4031: "anatomy",
    6103: "finding",
    6104: "finding",
    6105: "finding",
    6106: "finding",
    6030: "disease",
}


def fingerprint() -> str:
    """Return the identity of the installed files."""
    return installed_fingerprint(DISTRIBUTION, FILES)


def read() -> SourceTables:
    """Return the concepts of the chosen context groups."""
    concepts_path, groups_path = installed_files(DISTRIBUTION, FILES).values()
    table: dict[str, Any] = _load_module(concepts_path).concepts
    cid_concepts: dict[int, dict[str, list[str]]] = _load_module(groups_path).cid_concepts
    source = Source(
        name="dicom",
        version=f"pydicom {installed_version(DISTRIBUTION)}",
        licence="DICOM PS3.16 (NEMA); SNOMED CT codes by the DICOM agreement",
        trust=1.0,
        citation="DICOM PS3.16, Content Mapping Resource",
        url="https://dicom.nema.org/medical/dicom/current/output/html/part16.html",
        fingerprint=fingerprint(),
    )
    tables = SourceTables(source=source)
    seen: set[str] = set()
    for group, kind in GROUPS.items():
        for scheme, keywords in sorted(cid_concepts[group].items()):
            for keyword in sorted(keywords):
                for code, (meaning, groups) in sorted(table[scheme][keyword].items()):
                    curie = f"{scheme}:{code}"
                    if group in groups and curie not in seen:
                        seen.add(curie)
                        tables.concepts.append(ConceptRecord(curie, kind, meaning))
    return tables


def _load_module(path: Path) -> ModuleType:
    """Run one of pydicom's table modules alone: importing the whole package would load pixel decoders."""
    spec = spec_from_file_location(f"kg_dicom{path.stem}", path)
    if spec is None or spec.loader is None:
        raise SourceError(f"Expected a Python module in {path.name}.", remedy="Reinstall pydicom.")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
