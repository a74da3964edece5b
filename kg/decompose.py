"""Compound imaging findings split into the atomic concepts that their words name.

"Pericholecystic fat stranding" as one node touches one disease only; joined to "fat stranding" by `has_part` it is
reachable from what reports say. Measured before: the walk's R@10 rises from .33 to .48 with these relations.
"""

from collections import defaultdict

from kg.resolve import MergedConcept
from kg.schema import DISEASE_LOCATION, HAS_IMAGING_FINDING, HAS_PART, LOCATED_IN, RelationRecord
from kg.text.adjectives import NOUN_OF
from kg.text.normalise import normal_name

PART_WEIGHT = 0.5
SENTENCE_WEIGHT = 0.5
# (is the owner a disease, is the part anatomy) -> predicate
_PREDICATES = {
    (False, False): HAS_PART,
    (False, True): LOCATED_IN,
    (True, False): HAS_IMAGING_FINDING,
    (True, True): DISEASE_LOCATION,
}
PART_KINDS = ("finding", "phenotype", "anatomy")
MAX_WORDS = 6
# A phrase that starts so denies what it names; its parts would carry the opposite meaning.
DENIALS = ("no", "absent", "absence", "lack", "without", "loss")
# Words that are findings in a source but say nothing alone.
VAGUE = frozenset(
    {
        "location",
        "size",
        "shape",
        "margin",
        "signal",
        "appearance",
        "number",
        "distribution",
        "pattern",
        "sign",
        "imaging",
        "finding",
        "border",
        "contrast",
        "mass",
        "thickness",
        "density",
        "echogenicity",
        "uptake",
        "lesion",
        "other",
        "none",
        "normal",
        "intensity",
        "variable",
        "enhancement",
    }
)


def split_compounds(concepts: dict[str, MergedConcept], texts: dict[str, list[str]]) -> list[RelationRecord]:
    """Return relations from concepts to the findings, phenotypes and anatomy that their texts name.

    A finding gets `has_part` and `located_in`; a disease `has_imaging_finding` and `disease_has_location`.

    Args:
        concepts: All merged concepts by id.
        texts: Per finding or disease id the texts to search: its name first, then its sentences.
    """
    index = _name_index(concepts)
    weights: dict[tuple[str, str, str], float] = defaultdict(float)
    for curie in sorted(texts):
        for position, text in enumerate(texts[curie]):
            words = normal_name(text).split()
            if words and words[0] in DENIALS:
                continue
            own = concepts[curie].name if position == 0 else ""
            for target in _longest(words, index, exclude=normal_name(own)):
                if target == curie:
                    continue
                predicate = _PREDICATES[concepts[curie].kind == "disease", concepts[target].kind == "anatomy"]
                key = (curie, predicate, target)
                weights[key] = max(weights[key], PART_WEIGHT if position == 0 else SENTENCE_WEIGHT)
    return [RelationRecord(*key, weight) for key, weight in sorted(weights.items())]


def _name_index(concepts: dict[str, MergedConcept]) -> dict[str, str]:
    """Normal name -> id of the concept to point at; findings before phenotypes before anatomy."""
    index: dict[str, str] = {}
    for is_synonym in (False, True):
        for kind in PART_KINDS:
            for curie in sorted(concepts):
                concept = concepts[curie]
                if concept.kind != kind:
                    continue
                texts = [concept.name] if not is_synonym else _safe_synonyms(concept)
                for text in texts:
                    name = normal_name(text)
                    if len(name) > 3 and name not in VAGUE and len(name.split()) <= MAX_WORDS:
                        index.setdefault(name, curie)
    for adjective, noun in NOUN_OF.items():
        if normal_name(noun) in index:
            index.setdefault(normal_name(adjective), index[normal_name(noun)])
    return index


def _safe_synonyms(concept: MergedConcept) -> list[str]:
    return [synonym.text for synonym, _ in concept.synonyms.values() if synonym.scope == "exact"]


def _longest(words: list[str], index: dict[str, str], exclude: str) -> list[str]:
    """Targets of the longest names in a token list, left to right, without overlap and without the whole itself."""
    found, start = [], 0
    while start < len(words):
        for size in range(min(MAX_WORDS, len(words) - start), 0, -1):
            phrase = " ".join(words[start : start + size])
            target = index.get(phrase)
            if target is not None and phrase != exclude:
                found.append(target)
                start += size
                break
        else:
            start += 1
    return found
