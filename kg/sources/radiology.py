"""Imaging findings of diseases, differentials and signs, from `radiology-semantic-dict`.

The one free source that says what a disease looks like on CT and MR. It has no ids and cites nothing, so its trust is
low and every explanation shows its name. Ids are made here: `RSD:d/<slug>` for diseases, `RSD:f/<slug>` for findings.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kg.schema import (
    HAS_IMAGING_FINDING,
    IN_CATEGORY,
    SEEN_ON,
    ConceptRecord,
    RelationRecord,
    Source,
    SourceTables,
    Synonym,
)
from kg.sources.installed import installed_files, installed_fingerprint, installed_version
from kg.text.normalise import normal_name

DISTRIBUTION = "radiology-semantic-dict"
_STEMS = ("imaging_findings", "medical_concepts", "differential_groups", "imaging_signs", "syndrome_associations")
FILES = tuple(f"radiology_semantic/data/{stem}.json" for stem in _STEMS)
TRUST = 0.7
DIFFERENTIAL_WEIGHT = 0.5
PATHOGNOMONIC_WEIGHT = 1.0
FINDING_WEIGHT = 0.8

_PARENTHESIS = re.compile(r"\s*\(([^()]*)\)")
_ABBREVIATION = re.compile(r"[A-Z][A-Za-z0-9/&-]{0,7}")
_NOT_SLUG = re.compile(r"[^a-z0-9]+")
_DENIAL = re.compile(r"(?:no|absent|absence of|lack of|without)\b", re.IGNORECASE)
# Raw modality spelling (lower case, by containment) -> DICOM modality code.
_MODALITIES = (
    ("mri", "MR"),
    ("mra", "MR"),
    ("mrcp", "MR"),
    ("dwi", "MR"),
    ("pet", "PT"),
    ("ct", "CT"),
    ("us", "US"),
    ("ultrasound", "US"),
    ("doppler", "US"),
    ("echo", "US"),
    ("xr", "DX"),
    ("radiograph", "DX"),
    ("mammo", "MG"),
    ("nm", "NM"),
    ("fluoro", "RF"),
    ("angiography", "XA"),
)


def fingerprint() -> str:
    """Return the identity of the installed files."""
    return installed_fingerprint(DISTRIBUTION, FILES)


def read() -> SourceTables:
    """Return diseases, imaging findings and the claims between them."""
    data = {Path(name).stem: _load(path) for name, path in installed_files(DISTRIBUTION, FILES).items()}
    source = Source(
        name="radiology",
        version=installed_version(DISTRIBUTION),
        licence="MIT",
        trust=TRUST,
        knowledge_level="not_provided",
        agent_type="not_provided",
        citation="radiology-semantic-dict (GRAi), uncited statements",
        url="https://github.com/avg-hounsfield/radiology-semantic-dict",
        fingerprint=fingerprint(),
    )
    collector = _Collector()
    collector.add_concepts(data["medical_concepts"])
    collector.add_findings(data["imaging_findings"])
    collector.add_differentials(data["differential_groups"])
    collector.add_signs(data["imaging_signs"].values())
    collector.add_syndromes(data["syndrome_associations"])
    return collector.tables(source)


def _load(path: Path) -> Any:
    with path.open(encoding="utf-8") as stream:
        return json.load(stream)


def split_parentheses(name: str) -> tuple[str, list[str]]:
    """Return a name without its parentheses, and the abbreviations that stood in them.

    >>> split_parentheses("Hepatocellular Carcinoma (HCC)")
    ('Hepatocellular Carcinoma', ['HCC'])
    """
    inside = [part.strip() for part in _PARENTHESIS.findall(name)]
    bare = _PARENTHESIS.sub("", name).strip(" ,;:-")
    return (bare or name), [part for part in inside if _ABBREVIATION.fullmatch(part) and part != part.capitalize()]


def slug(name: str) -> str:
    """Return the part of an id made from a name."""
    return _NOT_SLUG.sub("_", normal_name(name)).strip("_")


class _Entry:
    """What is known of one disease or finding while rows are read."""

    __slots__ = ("name", "sentences", "synonyms")

    def __init__(self, name: str) -> None:
        self.name = name
        self.synonyms: dict[str, Synonym] = {}
        self.sentences: dict[str, None] = {}

    def add_synonym(self, text: str, scope: Any) -> None:
        if text and text != self.name:
            self.synonyms.setdefault(text, Synonym(text, scope))


class _Collector:
    def __init__(self) -> None:
        self.entries: dict[str, _Entry] = {}
        self.weights: dict[tuple[str, str, str], float] = defaultdict(float)
        self.defects: dict[str, int] = defaultdict(int)

    def disease(self, name: str) -> str:
        bare, abbreviations = split_parentheses(name)
        curie = f"RSD:d/{slug(bare)}"
        entry = self.entries.setdefault(curie, _Entry(bare))
        entry.add_synonym(name, "exact")
        for text in abbreviations:
            entry.add_synonym(text, "abbreviation")
        return curie

    def finding(self, name: str) -> str:
        curie = f"RSD:f/{slug(name)}"
        entry = self.entries.setdefault(curie, _Entry(name))
        bare, abbreviations = split_parentheses(name)
        if len(normal_name(bare).split()) > 1:
            entry.add_synonym(bare, "related")
        for text in abbreviations:
            entry.add_synonym(text, "abbreviation")
        return curie

    def claim(self, subject: str, predicate: str, target: str, weight: float = 1.0) -> None:
        if subject.endswith("/") or target.endswith("/"):
            self.defects["rows without a usable name"] += 1
            return
        key = (subject, predicate, target)
        self.weights[key] = max(self.weights[key], weight)

    def add_concepts(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            kind = row["concept_type"]
            if kind not in ("pathology", "finding"):
                self.defects[f"concepts of type {kind}"] += 1
                continue
            curie = self.disease(row["name"]) if kind == "pathology" else self.finding(row["name"])
            entry = self.entries[curie]
            for text in row.get("synonyms") or ():
                is_short = bool(_ABBREVIATION.fullmatch(text)) and text != text.capitalize() and text != text.lower()
                entry.add_synonym(text, "abbreviation" if is_short else "related")
            if definition := row.get("definition"):
                entry.sentences[definition] = None

    def add_findings(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            if not row.get("pathology_name") or not row.get("name"):
                self.defects["rows without a usable name"] += 1
                continue
            disease, finding = self.disease(row["pathology_name"]), self.finding(row["name"])
            weight = PATHOGNOMONIC_WEIGHT if row.get("is_pathognomonic") else FINDING_WEIGHT
            self.claim(disease, HAS_IMAGING_FINDING, finding, weight)
            sentence = f"{row['name']}. {row.get('description') or ''}".strip()
            self.entries[disease].sentences[sentence] = None
            if description := row.get("description"):
                self.entries[finding].sentences[description] = None
            for code in modality_codes(row.get("modality") or ""):
                self.claim(finding, SEEN_ON, f"DCM:{code}")
            if topic := row.get("acr_topic"):
                category = f"RSD:t/{slug(topic)}"
                self.entries.setdefault(category, _Entry(topic))
                self.claim(disease, IN_CATEGORY, category)

    def add_differentials(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            finding = self.finding(row["presentation"].strip('"'))
            for item in row["differentials"]:
                name = item["name"] if isinstance(item, dict) else item
                self.claim(self.disease(name), HAS_IMAGING_FINDING, finding, DIFFERENTIAL_WEIGHT)

    def add_signs(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            finding = self.finding(row["name"])
            for key in ("description", "key_feature"):
                self.entries[finding].sentences[row[key]] = None
            for name in row.get("differential") or ():
                disease = self.disease(name)
                self.claim(disease, HAS_IMAGING_FINDING, finding, DIFFERENTIAL_WEIGHT)
                self.entries[disease].sentences[f"{row['name']}. {row['description']}"] = None

    def add_syndromes(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            disease, finding = self.disease(row["syndrome_name"]), self.finding(row["associated_finding"])
            self.claim(disease, HAS_IMAGING_FINDING, finding, FINDING_WEIGHT)
            self.entries[disease].sentences[row["associated_finding"]] = None

    def tables(self, source: Source) -> SourceTables:
        kinds = {"d": "disease", "f": "finding", "t": "category"}
        tables = SourceTables(source=source)
        for curie, entry in self.entries.items():
            if not curie.endswith("/"):
                text = "\n".join(entry.sentences)
                kind = kinds[curie[4]]
                tables.concepts.append(ConceptRecord(curie, kind, entry.name, tuple(entry.synonyms.values()), (), text))
        for (subject, predicate, target), weight in self.weights.items():
            is_denied = predicate == HAS_IMAGING_FINDING and bool(_DENIAL.match(self.entries[target].name))
            tables.relations.append(RelationRecord(subject, predicate, target, weight, -1 if is_denied else 1))
        tables.defects.update(self.defects)
        return tables


def modality_codes(raw: str) -> list[str]:
    """Return DICOM modality codes for one of the source's 41 spellings, in a fixed order.

    >>> modality_codes("CT/MRI")
    ['MR', 'CT']
    """
    low = raw.lower()
    words = set(re.findall(r"[a-z]+", low))
    return list(dict.fromkeys(code for text, code in _MODALITIES if text in words or (len(text) > 3 and text in low)))
