"""How identifiers, relation names and kinds of other vocabularies are written in this graph."""

import re

from kg.schema import DISEASE_LOCATION, HAS_PART, HAS_PHENOTYPE, LOCATED_IN, PART_OF, SUBCLASS_OF

# Spelling elsewhere (lower case) -> prefix here. After the Bioregistry (https://bioregistry.io), cut to what occurs.
_PREFIXES = {
    "snomedct": "SCT",
    "snomedct_us": "SCT",
    "snomed": "SCT",
    "sctid": "SCT",
    "sct": "SCT",
    "msh": "MESH",
    "mesh": "MESH",
    "omim": "OMIM",
    "mim": "OMIM",
    "omimps": "OMIMPS",
    "orpha": "ORPHA",
    "ordo": "ORPHA",
    "orphanet": "ORPHA",
    "orphanet.ordo": "ORPHA",
    "umls": "UMLS",
    "umls_cui": "UMLS",
    "cui": "UMLS",
    "icd10cm": "ICD10CM",
    "icd-10-cm": "ICD10CM",
    "icd9cm": "ICD9CM",
    "icd10": "ICD10",
    "icd10who": "ICD10",
    "ncit": "NCIT",
    "nci": "NCIT",
    "doid": "DOID",
    "mondo": "MONDO",
    "hp": "HP",
    "hpo": "HP",
    "uberon": "UBERON",
    "ncbigene": "NCBIGene",
    "entrez gene": "NCBIGene",
    "ncbi": "NCBIGene",
    "radlex": "RADLEX",
    "rid": "RADLEX",
    "efo": "EFO",
    "meddra": "MEDDRA",
    "gard": "GARD",
    "icdo": "ICDO",
    "symp": "SYMP",
}
_KINDS = {
    "DOID": "disease",
    "MONDO": "disease",
    "OMIM": "disease",
    "OMIMPS": "disease",
    "ORPHA": "disease",
    "DECIPHER": "disease",
    "HP": "phenotype",
    "SYMP": "phenotype",
    "UBERON": "anatomy",
    "FMA": "anatomy",
    "NCBIGene": "gene",
    "HGNC": "gene",
    "ICD10CM": "code",
    "ICD10": "code",
    "ICD9CM": "code",
}
_PREDICATES = {
    "is_a": SUBCLASS_OF,
    "subclassof": SUBCLASS_OF,
    "subclass_of": SUBCLASS_OF,
    "part_of": PART_OF,
    "bfo_0000050": PART_OF,
    "has_part": HAS_PART,
    "bfo_0000051": HAS_PART,
    "has_phenotype": HAS_PHENOTYPE,
    "has_symptom": HAS_PHENOTYPE,
    "ro_0002200": HAS_PHENOTYPE,
    "ro_0002452": HAS_PHENOTYPE,
    "located_in": LOCATED_IN,
    "ro_0001025": LOCATED_IN,
    "disease_has_location": DISEASE_LOCATION,
    "ro_0004026": DISEASE_LOCATION,
}
_IRI = re.compile(r"(?:https?://[^\s<>]*[/#]|^)([A-Za-z][A-Za-z0-9]*)_([A-Za-z0-9.]+)$")


def curie_of(identifier: str) -> str:
    """Return an identifier or IRI as a CURIE with this graph's prefix.

    >>> curie_of("http://purl.obolibrary.org/obo/DOID_1612"), curie_of("SNOMEDCT_US_2025_09_01:254837009")
    ('DOID:1612', 'SCT:254837009')
    """
    text = identifier.strip()
    if "://" in text and (match := _IRI.search(text)):
        text = f"{match.group(1)}:{match.group(2)}"
    prefix, colon, code = text.partition(":")
    if not colon:
        return text
    low = prefix.lower()
    if low.startswith("snomedct_us"):
        low = "snomedct_us"
    return f"{_PREFIXES.get(low, prefix)}:{code}"


def kind_of_prefix(curie: str) -> str:
    """Return the kind that an authority's ids usually have; `category` where it has many."""
    return _KINDS.get(curie.partition(":")[0], "category")


def predicate_of(name: str) -> str:
    """Return the predicate for a relation's name, CURIE or IRI; `medmm:<name>` where none is known.

    >>> predicate_of("RO:0004026"), predicate_of("derives from")
    ('biolink:disease_has_location', 'medmm:derives_from')
    """
    if name.startswith(("biolink:", "medmm:")):
        return name
    word = re.split(r"[/#]", name.strip())[-1]
    key = re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")
    return _PREDICATES.get(key, f"medmm:{key}")
