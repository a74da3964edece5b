"""Installed sources by name: a reader and a fingerprint each, loaded on first use."""

from importlib import import_module
from typing import NamedTuple

from kg.schema import SourceTables


class InstalledSource(NamedTuple):
    """A source that lives in an installed wheel. `module` has `read()` and `fingerprint()`."""

    name: str
    module: str

    def read(self) -> SourceTables:
        """Return the source's records."""
        tables: SourceTables = import_module(self.module).read()
        return tables

    def fingerprint(self) -> str:
        """Return the identity of the source's files."""
        value: str = import_module(self.module).fingerprint()
        return value


INSTALLED_SOURCES: dict[str, InstalledSource] = {
    "dicom": InstalledSource("dicom", "kg.sources.dicom_codes"),
    "hpo": InstalledSource("hpo", "kg.sources.hpo"),
    "icd10cm": InstalledSource("icd10cm", "kg.sources.icd10cm"),
    "mondo": InstalledSource("mondo", "kg.sources.mondo"),
    "pathology": InstalledSource("pathology", "kg.sources.pathology"),
    "radiology": InstalledSource("radiology", "kg.sources.radiology"),
    "uberon": InstalledSource("uberon", "kg.sources.uberon"),
}
DEFAULT_SOURCES = ("dicom", "hpo", "icd10cm", "pathology", "radiology")
