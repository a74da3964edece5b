"""Other ways in which clinicians write a name: word order, disease or disorder, type numbers. All in normal form."""

from collections.abc import Iterator

# Head nouns that stand before "of" as well as after a modifier: "stenosis of the aorta", "aorta stenosis".
_HEADS_TEXT = """
abnormality abscess adenocarcinoma adenoma agenesis aneurysm aplasia atresia atrophy calcification cancer
carcinoma cyst deficiency degeneration deformity dilatation dislocation duplication dysplasia edema enlargement
fibrosis fracture hemangioma hematoma hemorrhage hypoplasia infarct infarction inflammation injury lymphoma
melanoma metastasis necrosis neoplasm obstruction perforation rupture sarcoma stenosis tear thrombosis
tuberculosis tumor ulcer
"""
_HEADS = frozenset(_HEADS_TEXT.split())
_SAME_WORD = {
    "disease": ("disorder",),
    "disorder": ("disease",),
    "dilation": ("dilatation",),
    "dilatation": ("dilation",),
    "abnormality": ("anomaly", "defect"),
    "anomaly": ("abnormality",),
    "neoplasm": ("tumor",),
    "tumor": ("neoplasm",),
    "hypofunction": ("insufficiency",),
    "impairment": ("loss",),
}
# Adjectives and nouns of one organ, either of which may stand first in a name. Only pairs that mean quite the same.
_ORGANS = (
    ("bony", "bone"),
    ("cardiac", "heart"),
    ("cerebellar", "cerebellum"),
    ("cutaneous", "skin"),
    ("gastric", "stomach"),
    ("hepatic", "liver"),
    ("immunologic", "immune system"),
    ("mammary", "breast"),
    ("muscular", "muscle"),
    ("neurologic", "nervous system"),
    ("neurological", "nervous system"),
    ("ocular", "eye"),
    ("osseous", "bone"),
    ("ovarian", "ovary"),
    ("pancreatic", "pancreas"),
    ("prostatic", "prostate"),
    ("pulmonary", "lung"),
    ("renal", "kidney"),
    ("splenic", "spleen"),
    ("testicular", "testis"),
    ("thymic", "thymus"),
    ("uterine", "uterus"),
    ("vesical", "bladder"),
)
_ORGAN_FORMS: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
for _adjective, _noun in _ORGANS:
    _ORGAN_FORMS.setdefault((_adjective,), []).append(tuple(_noun.split()))
    _ORGAN_FORMS.setdefault(tuple(_noun.split()), []).append((_adjective,))
_INHERITED = ("familial", "hereditary", "inherited")
# "Inherited disorder", "genetic defect": any of the first words with any of the second says that a disease is genetic.
_GENETIC = frozenset((*_INHERITED, "genetic", "heritable"))
_DISEASES = ("abnormality", "condition", "defect", "disease", "disorder")
_ARTICLES = frozenset(("the", "a", "an"))


def variants(tokens: list[str]) -> Iterator[list[str]]:
    """Yield other token sequences for the same name; the name itself is not among them."""
    seen = {tuple(tokens)}
    for form in _forms(tokens):
        if form and tuple(form) not in seen:
            seen.add(tuple(form))
            yield form


def _forms(tokens: list[str]) -> Iterator[list[str]]:
    if tokens.count(",") == 1:
        comma = tokens.index(",")
        before, after = tokens[:comma], tokens[comma + 1 :]
        if before and after and not after[0].isdigit() and after[0] not in ("type", "unspecified", "other", "with"):
            yield after + before
        if after and after[0] == "type":
            yield before + after
        return
    if "of" in tokens:
        at = tokens.index("of")
        rest = [token for token in tokens[at + 1 :] if token not in _ARTICLES]
        if at >= 1 and tokens[at - 1] in _HEADS and rest and "of" not in rest:
            yield tokens[: at - 1] + rest + [tokens[at - 1]]
            yield [*tokens[: at + 1], *rest]
            yield [*tokens[: at + 1], "the", *rest]
    elif len(tokens) >= 2 and tokens[-1] in _HEADS:
        yield [tokens[-1], "of", *tokens[:-1]]
        yield [tokens[-1], "of", "the", *tokens[:-1]]
    yield from _inherited(tokens)
    heads = _SAME_WORD.get(tokens[-1], ()) if len(tokens) >= 2 else ()
    for word in heads:
        yield [*tokens[:-1], word]
    for size in (1, 2):
        for form in _ORGAN_FORMS.get(tuple(tokens[:size]), ()) if len(tokens) > size else ():
            for word in (tokens[-1], *heads):
                yield [*form, *tokens[size:-1], word]
    if len(tokens) >= 3 and tokens[-2] == "type":
        yield ["type", tokens[-1], *tokens[:-2]]
        yield [*tokens[:-2], tokens[-1]]
        if len(tokens) >= 4 and tokens[-3] in ("disease", "syndrome"):
            yield [*tokens[:-3], *tokens[-2:]]
    elif len(tokens) >= 2 and tokens[-1].isdigit() and len(tokens[-1]) < 3:
        yield [*tokens[:-1], "type", tokens[-1]]
        yield ["type", tokens[-1], *tokens[:-1]]


def _inherited(tokens: list[str]) -> Iterator[list[str]]:
    if len(tokens) == 2 and tokens[0] in _GENETIC and tokens[1] in _DISEASES:
        yield from ([first, head] for first in sorted(_GENETIC) for head in _DISEASES)
    elif tokens[0] in _INHERITED:
        yield from ([first, *tokens[1:]] for first in _INHERITED)
