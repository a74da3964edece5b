"""One normal form for names and running text, with the way back to character positions.

Normalised text is a sequence of tokens: letters and digits are folded (accents, case, British spelling, possessives,
plurals), punctuation that separates phrases stays as a token of its own, hyphens vanish. Names and text pass through
the same function, so what matches is decided here and nowhere else.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

# A word (with inner apostrophe), or one character that separates phrases. Hyphens, underscores and quotes vanish.
_TOKEN = re.compile(r"[^\W_]+(?:['’ʼ`´][^\W_]+)*['’ʼ](?=\s|$)|[^\W_]+(?:['’ʼ`´][^\W_]+)*|[,;:.!?()\[\]/<>=+&%|\n]")

# British -> American spelling, as they occur inside medical words.
_BRITISH = (
    ("haem", "hem"),
    ("oedem", "edem"),
    ("oesoph", "esoph"),
    ("oestr", "estr"),
    ("anaem", "anem"),
    ("aemi", "emi"),
    ("caec", "cec"),
    ("faec", "fec"),
    ("paed", "ped"),
    ("gynaec", "gynec"),
    ("orrhoea", "orrhea"),
    ("rrhoea", "rrhea"),
    ("foet", "fet"),
    ("coel", "cel"),
    ("aetiolog", "etiolog"),
    ("naev", "nev"),
    ("ischaem", "ischem"),
    ("leukaem", "leukem"),
    ("tumour", "tumor"),
    ("colour", "color"),
    ("fibre", "fiber"),
    ("centre", "center"),
    ("litre", "liter"),
    ("calibre", "caliber"),
    ("grey", "gray"),
    ("sulph", "sulf"),
    ("localis", "localiz"),
    ("generalis", "generaliz"),
    ("calcis", "calciz"),
    ("dyspnoea", "dyspnea"),
    ("apnoea", "apnea"),
    ("diarrhoea", "diarrhea"),
    ("aneurism", "aneurysm"),
)
_BRITISH_HINT = re.compile(r"ae|oe|our|tre|bre|grey|sulph|lis|eurism")

# Roman numerals are written as digits; those of one letter only where the word before says that a number follows.
_ROMAN = {"ii": "2", "iii": "3", "iv": "4", "vi": "6", "vii": "7", "viii": "8", "ix": "9"}
_ROMAN_LETTER = {"i": "1", "v": "5", "x": "10"}
_NUMBERED = frozenset(("type", "grade", "stage", "class", "group", "phase", "factor", "syndrome", "disease"))

_PLURALS = {
    "foci": "focus",
    "emboli": "embolus",
    "thrombi": "thrombus",
    "calculi": "calculus",
    "bronchi": "bronchus",
    "nevi": "nevus",
    "naevi": "nevus",
    "nuclei": "nucleus",
    "sulci": "sulcus",
    "gyri": "gyrus",
    "radii": "radius",
    "hili": "hilum",
    "hila": "hilum",
    "diverticula": "diverticulum",
    "septa": "septum",
    "atria": "atrium",
    "ostia": "ostium",
    "ova": "ovum",
    "bacteria": "bacterium",
    "metastases": "metastasis",
    "indices": "index",
    "appendices": "appendix",
    "matrices": "matrix",
    "cortices": "cortex",
    "apices": "apex",
    "vertices": "vertex",
    "testes": "testis",
    "pelves": "pelvis",
    "lungs": "lung",
    "teeth": "tooth",
    "feet": "foot",
    "lice": "louse",
    "children": "child",
    "women": "woman",
    "men": "man",
    "menisci": "meniscus",
    "humeri": "humerus",
    "uteri": "uterus",
    "biceps": "biceps",
    "triceps": "triceps",
    "quadriceps": "quadriceps",
    "rabies": "rabies",
    "scabies": "scabies",
    "caries": "caries",
    "herpes": "herpes",
    "diabetes": "diabetes",
    "series": "series",
    "species": "species",
    "facies": "facies",
    "lens": "lens",
    "pons": "pons",
    "gas": "gas",
    "pus": "pus",
    "always": "always",
    "ascites": "ascites",
    "pancreas": "pancreas",
    "was": "was",
    "has": "has",
    "does": "does",
    "this": "this",
    "its": "its",
    "as": "as",
    "is": "is",
    "us": "us",
    "yes": "yes",
    "aids": "aids",
    "doses": "dose",
    "noses": "nose",
    "bases": "base",
    "deficient": "deficiency",
    "biases": "bias",
}


@dataclass(frozen=True, slots=True)
class Normalised:
    """Tokens of a text and where they stand: token k is `text[starts[k]:ends[k]]` of the original."""

    tokens: list[str]
    starts: list[int]
    ends: list[int]


def normalise(text: str) -> Normalised:
    """Return folded tokens with character spans of the original text."""
    spans = [match.span() for match in _TOKEN.finditer(text)]
    tokens = _numbered([fold(text[start:end]) for start, end in spans])
    return Normalised(tokens, [start for start, _ in spans], [end for _, end in spans])


@lru_cache(maxsize=1 << 18)
def normal_name(text: str) -> str:
    """Return the normal form of a name: folded tokens joined by one blank.

    >>> normal_name("Wilms' Tumours")
    'wilm tumor'
    """
    return " ".join(_numbered([fold(word) for word in _TOKEN.findall(text)]))


def _numbered(tokens: list[str]) -> list[str]:
    """Write "type I" as "type 1"; a lone letter elsewhere stays."""
    if not _ROMAN_LETTER.keys().isdisjoint(tokens):
        for at in range(1, len(tokens)):
            if tokens[at] in _ROMAN_LETTER and tokens[at - 1] in _NUMBERED:
                tokens[at] = _ROMAN_LETTER[tokens[at]]
    return tokens


@lru_cache(maxsize=200_000)
def fold(token: str) -> str:
    """Return one token without case, accents, possessive, British spelling and plural."""
    word = token.lower()
    if not word.isascii():
        word = word.replace("’", "'").replace("ʼ", "'").replace("`", "'").replace("´", "'")
        word = "".join(char for char in unicodedata.normalize("NFKD", word) if not unicodedata.combining(char))
    if "'" in word:
        word = word.removesuffix("'s").removesuffix("'").replace("'", "")
    word = _ROMAN.get(word, word)
    if len(word) < 3:
        return word
    if word.endswith("ae") and len(word) > 4:
        return _american(word[:-1])
    return _singular(_american(word))


def _american(word: str) -> str:
    if _BRITISH_HINT.search(word):
        for british, american in _BRITISH:
            word = word.replace(british, american)
    return word


def _singular(word: str) -> str:
    known = _PLURALS.get(word)
    if known is not None:
        return known
    if word.endswith("mata") and len(word) > 6:
        return word[:-2]
    if not word.endswith("s") or word.endswith(("ss", "us", "is", "itis")) or not word[-2].isalpha() or len(word) < 4:
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("oses", "yses")) and len(word) > 5:
        return word[:-2] + "is"
    if word.endswith(("sses", "xes", "ches", "shes", "zes")):
        return word[:-2]
    return word[:-1]
