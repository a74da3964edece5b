"""Which sequence a series is (`t1`, `t1ce`, `t2`, `flair`, ...), from what the DICOM header says, and why.

Folder and file names play no part. The rule, in this order:

1. Modality: CT is `cta` when its words speak of angiography, else `ctce` when of contrast, else `ct`; PT is `pt`.
2. For MR, maps and diffusion by words or by b-value: `adc`, `dwi`, `swi`, `mra`, `perfusion`, `localizer`.
3. FLAIR by its word, or by an inversion time above 1500 ms with an echo time above 60 ms.
4. `t1` and `t2` (`t2star`, `pd`) by their words; without a word by timing: for spin echo, TR below 1200 ms and TE below
   40 ms is `t1`, TR above 1800 ms with TE above 60 ms `t2`, with TE below 40 ms `pd`. For gradient echo, TE below 12 ms
   is `t1`, above it `t2star`. Inversion recovery with a TI of 300 to 1500 ms and a short TE is `t1` (MPRAGE, IR-FSPGR).
5. A `t1` is `t1ce` when (0018,0010) Contrast/Bolus Agent names an agent, or a word says so (post, gd, +c, ...),
   unless a word says that it came before (pre, native, without).
6. Words are taken from (0008,103E) Series Description, then (0018,1030) Protocol Name, then (0018,0024) Sequence Name.

Timing ranges: the usual weighting of clinical spin echo at 1.5 and 3 T (Bushberg et al., The Essential Physics of
Medical Imaging, 3rd ed., chapter 12).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from medmm.dicom.types import AcquisitionHeader, Series, Study
from medmm.types import Note

_AGENT_ABSENT = re.compile(r"^\s*(no|none|n|without|w/?o|0|nil|non[- ]?contrast|unenhanced|-*)\s*(contrast)?\s*$", re.I)
_POST = re.compile(
    r"(?<![a-z])(post|gd|gad|gado|gadolinium|contrast|enhanced|ce|c\+|km|magnevist|dotarem|gadovist|prohance)(?![a-z])"
    r"|\+\s*(c|gd|gad|km)(?![a-z])|t1c(?![a-z])|t1ce|t1gd|w/?\s*c(?![a-z])|with (contrast|gad)",
    re.I,
)
_PRE = re.compile(
    r"(?<![a-z])(pre|precontrast|native|nativ|plain|unenhanced|noncontrast)(?![a-z])|non[- ]contrast|(without|w/?o|no) "
    r"(contrast|gad|gd|c)(?![a-z])|(?<![a-z])-\s?c(?![a-z])",
    re.I,
)
_WORDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("localizer", re.compile(r"(?<![a-z])(localizer|localiser|scout|survey|3[- ]?plane|plan scan)", re.I)),
    ("adc", re.compile(r"(?<![a-z])(adc|apparent diffusion)", re.I)),
    (
        "dwi",
        re.compile(r"(?<![a-z])(dwi|dw|diff|diffusion|trace|tracew|b ?1000|ep2d_diff|dti)(?![a-z])|diffusion", re.I),
    ),
    ("swi", re.compile(r"(?<![a-z])(swi|swan|susceptibility|minip|venobold)", re.I)),
    ("mra", re.compile(r"(?<![a-z])(mra|mrv|tof|angio|pcmra)(?![a-z])|angiograph", re.I)),
    (
        "perfusion",
        re.compile(r"(?<![a-z])(pwi|perf|perfusion|dsc|dce|rcbv|rcbf|cbv|cbf|mtt|ttp|asl|pcasl)(?![a-z])", re.I),
    ),
    ("fmri", re.compile(r"(?<![a-z])(bold|fmri|rest(ing)?)(?![a-z])", re.I)),
    ("flair", re.compile(r"flair|(?<![a-z])(dark[ _-]?fluid|tirm.*dark)", re.I)),
    ("stir", re.compile(r"(?<![a-z])(stir|tirm)(?![a-z])", re.I)),
    ("t2star", re.compile(r"t2\s?\*|t2[ _-]?star|(?<![a-z])(hemo|haemo|t2gre|ffe[ _-]?t2)", re.I)),
    ("pd", re.compile(r"(?<![a-z])(pd|pdw|proton)(?![a-z])|proton[ _-]?density", re.I)),
    ("t1", re.compile(r"(?<![a-z0-9])t1|(?<![a-z])(mprage|mp[- ]?rage|spgr|bravo|fspgr|tfl3d|vibe|lava|thrive)", re.I)),
    ("t2", re.compile(r"(?<![a-z0-9])t2|(?<![a-z])(haste|ssfse|ciss|fiesta|space_t2|cube[ _-]?t2)", re.I)),
)
_CTA = re.compile(r"(?<![a-z])(cta|ct[- ]?angio|angio|arterial|pulmonary embol)", re.I)


@dataclass(frozen=True, slots=True)
class SequenceGuess:
    """The role of a series (None when unknown) and the reason, in a sentence without any identifier."""

    role: str | None
    reason: str


class Choice(dict[str, Series]):
    """The series chosen for each role, with the notes on how, and the roles that none fits."""

    def __init__(self, chosen: Mapping[str, Series], notes: tuple[Note, ...], missing: tuple[str, ...]) -> None:
        super().__init__(chosen)
        self.notes = notes
        self.missing = missing


def sequence_role(header: AcquisitionHeader, siblings: Iterable[AcquisitionHeader] = ()) -> str | None:
    """Return the role of a series, or None when its header does not tell. See `explain_role` for the reason."""
    return explain_role(header, siblings).role


def explain_role(header: AcquisitionHeader, siblings: Iterable[AcquisitionHeader] = ()) -> SequenceGuess:
    """Return the role of a series and why.

    Args:
        header: Of the series in question.
        siblings: Headers of the study's other series: a contrast agent named in *every* T1 of a study (some scanners
            copy it from the order) does not make the first of them enhanced when its words say pre.
    """
    modality = header.modality
    if modality == "CT":
        return _ct(header)
    if modality == "PT":
        return SequenceGuess("pt", "(0008,0060) Modality is PT.")
    if modality != "MR":
        return SequenceGuess(None, "(0008,0060) Modality is neither CT, MR nor PT.")
    role, reason = _mr(header)
    if role == "t1":
        return _enhanced(header, reason, tuple(siblings))
    return SequenceGuess(role, reason)


def choose_series(study: Study, roles: Iterable[str]) -> Choice:
    """Return the best series of a study for each role.

    Of several that fit: volumes with a place in the patient before pictures without one, original before derived
    images, magnitude before other components, then the thinnest spacing between slices, then most slices, then the
    lowest series number, then the UID. The choice and the rest are noted (series.choice); a role without a series is
    noted as series.none.
    """
    headers = [series.header for series in study.series]
    found: dict[str, list[tuple[Series, str]]] = {}
    for n, series in enumerate(study.series):
        guess = explain_role(series.header, headers[:n] + headers[n + 1 :])
        if guess.role is not None:
            found.setdefault(guess.role, []).append((series, guess.reason))
    chosen: dict[str, Series] = {}
    notes: list[Note] = []
    absent: list[str] = []
    for role in roles:
        candidates = sorted(found.get(role, []), key=lambda entry: _preference(entry[0]))
        if not candidates:
            absent.append(role)
            notes.append(Note("series.none", f"No series of the study is {role}."))
            continue
        chosen[role] = candidates[0][0]
        message = f"{role}: {_name(candidates[0][0])} was taken. {candidates[0][1]}"
        if len(candidates) > 1:
            rest = ", ".join(_name(series) for series, _ in candidates[1:])
            message += f" {len(candidates) - 1} more fit: {rest}."
        notes.append(Note("series.choice", message))
    return Choice(chosen, tuple(notes), tuple(absent))


def every_series(study: Study) -> Choice:
    """Return all series of a study but scouts as `series-1`, `series-2`, ..., by series and instance number."""

    def place(series: Series) -> tuple[object, ...]:
        numbers = (series.header.series_number, series.slices[0].instance.number)
        known = [2**31 if number is None else number for number in numbers]
        return (*known, series.series_uid, series.split_key)

    wanted = [series for series in study.series if explain_role(series.header).role != "localizer"]
    chosen = {f"series-{rank}": series for rank, series in enumerate(sorted(wanted, key=place), 1)}
    return Choice(chosen, (), ())


def _preference(series: Series) -> tuple[object, ...]:
    header, first = series.header, series.slices[0].frame
    kind = header.image_type
    steps = header.spacing_between_slices_mm or header.slice_thickness_mm or 99.0
    return (
        not first.position,
        bool(kind) and kind[0] == "DERIVED",
        bool({"PHASE", "P", "REAL", "IMAGINARY"} & set(kind[2:])),
        round(abs(steps), 1),
        -len(series.slices),
        header.series_number if header.series_number is not None else 2**31,
        series.series_uid,
        series.split_key,
    )


def _name(series: Series) -> str:
    """A series in a message: its number and size, never its free text."""
    number = series.header.series_number
    label = f"series {number}" if number is not None else "a series without number"
    part = f" ({series.split_key})" if series.split_key else ""
    return f"{label}{part} of {len(series.slices)} slices"


def _texts(header: AcquisitionHeader) -> tuple[tuple[str, str], ...]:
    return (
        ("(0008,103E) Series Description", header.description),
        ("(0018,1030) Protocol Name", header.protocol_name),
        ("(0018,0024) Sequence Name", header.sequence_name),
    )


def _mr(header: AcquisitionHeader) -> tuple[str | None, str]:
    kinds = set(header.image_type)
    if "ADC" in kinds:
        return "adc", "(0008,0008) Image Type says ADC."
    if kinds & {"DIFFUSION", "TRACEW"}:
        return "dwi", "(0008,0008) Image Type says diffusion."
    for source, text in _texts(header):
        spaced = text.replace("_", " ")
        for role, pattern in _WORDS:
            if pattern.search(spaced):
                return role, f"A word in {source} says {role}."
    if header.b_value is not None and header.b_value > 0:
        return "dwi", "(0018,9087) Diffusion b-value is above 0."
    return _by_timing(header)


def _by_timing(header: AcquisitionHeader) -> tuple[str | None, str]:
    tr, te, ti = header.tr_ms, header.te_ms, header.ti_ms
    if te is None:
        return None, "No word tells the sequence, and (0018,0081) Echo Time is missing."
    timing = f"TR {tr:g}, TE {te:g}" if tr is not None else f"TE {te:g}"
    timing += f", TI {ti:g} ms" if ti else " ms"
    if ti and ti > 1500 and te > 60:
        return "flair", f"Long inversion and echo times ({timing})."
    if ti and 300 <= ti <= 1500 and te < 40:
        return "t1", f"Inversion recovery with a short echo time ({timing})."
    if "GR" in header.scanning_sequence and "SE" not in header.scanning_sequence:
        return ("t1" if te < 12 else "t2star"), f"Gradient echo ({timing})."
    if tr is None:
        return None, f"No word tells the sequence, and (0018,0080) Repetition Time is missing ({timing})."
    return _spin_echo(tr, te), f"Repetition and echo times ({timing})."


def _spin_echo(tr_ms: float, te_ms: float) -> str | None:
    """Weighting of a spin echo by its timing, None between the ranges."""
    if tr_ms < 1200 and te_ms < 40:
        return "t1"
    if tr_ms > 1800 and te_ms > 60:
        return "t2"
    return "pd" if tr_ms > 1800 and te_ms < 40 else None


def _enhanced(header: AcquisitionHeader, reason: str, siblings: tuple[AcquisitionHeader, ...]) -> SequenceGuess:
    """Tell T1 before contrast from T1 after it."""
    words = " ".join(text.replace("_", " ") for _, text in _texts(header))
    says_pre, says_post = bool(_PRE.search(words)), bool(_POST.search(_PRE.sub(" ", words)))
    has_agent = bool(header.contrast_agent) and not _AGENT_ABSENT.match(header.contrast_agent)
    if says_pre and not says_post:
        why = "a word says before contrast" + (", which outweighs (0018,0010)" if has_agent else "")
        return SequenceGuess("t1", f"{reason} Not enhanced: {why}.")
    if has_agent:
        return SequenceGuess("t1ce", f"{reason} Enhanced: (0018,0010) Contrast/Bolus Agent names an agent.")
    if says_post:
        return SequenceGuess("t1ce", f"{reason} Enhanced: a word says after contrast.")
    if any(other.contrast_agent for other in siblings):
        return SequenceGuess("t1", f"{reason} Not enhanced: no agent here, while another series of the study has one.")
    return SequenceGuess("t1", f"{reason} Not enhanced: nothing speaks of contrast.")


def _ct(header: AcquisitionHeader) -> SequenceGuess:
    words = " ".join(text.replace("_", " ") for _, text in _texts(header))
    if "LOCALIZER" in header.image_type:
        return SequenceGuess("localizer", "(0008,0008) Image Type says localizer.")
    if _CTA.search(words):
        return SequenceGuess("cta", "A word says angiography.")
    has_agent = bool(header.contrast_agent) and not _AGENT_ABSENT.match(header.contrast_agent)
    if has_agent and not _PRE.search(words):
        return SequenceGuess("ctce", "(0018,0010) Contrast/Bolus Agent names an agent.")
    return SequenceGuess("ct", "(0008,0060) Modality is CT, and nothing speaks of contrast.")
