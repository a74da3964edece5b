"""Report texts of phantom patients: plain radiology sentences around the planted ones."""

import numpy as np

from medmm.synthetic.plan import DISEASES, PlantedCase

_HISTORIES = (
    "Headache for several weeks.",
    "New neurological deficit.",
    "First seizure.",
    "Progressive gait disturbance.",
)
_NEUTRAL = (
    "The basal cisterns are open.",
    "The ventricles are normal in width.",
    "Flow voids of the large vessels are preserved.",
    "The paranasal sinuses are clear.",
    "No acute infarct.",
)
DENIALS = ("No {finding}.", "There is no evidence of {finding}.", "No sign of {finding}.")


def write_report(case: PlantedCase, rng: np.random.Generator) -> dict[str, str]:
    """Section title to text, in the order of a radiology report. The disease is never named, nor is the side."""
    affirming = [sentence for name, sentence in _sentences().items() if name in case.affirmed]
    denying = [DENIALS[int(rng.integers(len(DENIALS)))].format(finding=name) for name in case.denied]
    neutral = [_NEUTRAL[i] for i in sorted(rng.choice(len(_NEUTRAL), size=2, replace=False))]
    opening = f"There is an abnormality near the {case.lobe} lobe."
    contrast = "before and after contrast" if "t1ce" in case.roles else "without contrast"
    return {
        "CLINICAL HISTORY": _HISTORIES[int(rng.integers(len(_HISTORIES)))],
        "TECHNIQUE": f"MRI of the head, T1 and FLAIR images {contrast}.",
        "FINDINGS": " ".join([opening, *affirming, *denying, *neutral]),
        "IMPRESSION": "Intracranial abnormality as described above. Clinical correlation is advised.",
    }


def as_text(sections: dict[str, str]) -> str:
    """The report as one text, headings on lines of their own."""
    return "\n\n".join(f"{title}:\n{text}" for title, text in sections.items()) + "\n"


def _sentences() -> dict[str, str]:
    return {name: sentence for disease in DISEASES for name, sentence in disease.findings.items()}
