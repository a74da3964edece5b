"""Answers of a model to files, one a task and setting, in the formats of `answers`."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.recipes.radiology_cases.answers import (
    Classified,
    Ranked,
    ranked_by,
    write_classified,
    write_ranked,
)
from pipelines.recipes.radiology_cases.cases import Diagnosis
from pipelines.recipes.radiology_cases.features import Features
from pipelines.recipes.radiology_cases.labels import CASE_TASKS, PICTURE_TASKS
from pipelines.recipes.radiology_cases.model import Answers

_NUMBER = {"location": "T1_case", "superclass": "T2"}
_PICTURE_FILES = {
    "location": "T1_image",
    "modality": "T5_modality",
    "plane": "T5_plane",
}


def write_answers(folder: Path, diagnoses: Sequence[Diagnosis], features: Features, answers: Answers) -> list[str]:
    """Write every file; return their names. Existing ones are overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    ids, files = tuple(case.id for case in features.cases), features.files
    keys = [one.key for one in diagnoses]
    classified = {
        name: Classified(
            key="image",
            keys=files,
            classes=PICTURE_TASKS[task],
            probabilities=answers.pictures[task],
        )
        for task, name in _PICTURE_FILES.items()
    }
    for key, chances in answers.cases.items():
        task, setting = key.split("/")
        name = f"{_NUMBER[task]}_{setting}"
        classified[name] = Classified(key="id", keys=ids, classes=CASE_TASKS[task], probabilities=chances)
        if task == "location":
            classified[f"T1_image_{setting}"] = Classified(
                key="image",
                keys=files,
                classes=CASE_TASKS[task],
                probabilities=chances[features.owner],
            )
    ranked = {
        f"T3_{setting}": Ranked(key="id", keys=ids, ranked=ranked_by(scores, keys))
        for setting, scores in answers.diagnoses.items()
    }
    captions, findings = answers.pairs["captions"], answers.pairs["findings"]
    ranked |= {
        "T4_image_to_caption": Ranked(key="query", keys=files, ranked=ranked_by(captions, files)),
        "T4_caption_to_image": Ranked(key="query", keys=files, ranked=ranked_by(captions.T, files)),
        "T4_image_to_findings": Ranked(key="query", keys=files, ranked=ranked_by(findings, ids)),
        "T4_findings_to_image": Ranked(key="query", keys=ids, ranked=ranked_by(findings.T, files)),
    }
    for name, answer in classified.items():
        write_classified(folder / f"{name}.csv", answer)
    for name, one in ranked.items():
        write_ranked(folder / f"{name}.csv", one)
    return sorted([*classified, *ranked])
