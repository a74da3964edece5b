"""The draft in words: every statement traceable, doubt said plainly, the same content in both languages."""

import string
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_examples import make_explanation

from medmm.report import texts as texts_package
from medmm.report.document import TaskPart
from medmm.report.texts import load_texts
from medmm.report.words import certainty, percent, pointer, says_set
from medmm.results import MentionEvidence, OutOfDistribution
from medmm.types import Volume

GOLDEN = Path(__file__).with_name("golden_draft_en.txt")


def _lines(**changes: Any) -> str:
    draft = make_explanation(**changes).report().document().draft
    return "\n".join(statement.text for statement in (*draft.findings, *draft.impression, *draft.basis))


def _resolve(document: Any, path: str) -> Any:
    for key in path.split("/")[1:]:
        name = key.replace("~1", "/").replace("~0", "~")
        document = document[int(name)] if isinstance(document, list) else document[name]
    return document


def _table(language: str) -> dict[str, Any]:
    return tomllib.loads(Path(texts_package.__file__).with_name(f"{language}.toml").read_text(encoding="utf-8"))


def test_draft_reads_as_reviewed() -> None:
    assert _lines() + "\n" == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_statement_points_at_values_of_the_document(lang: str) -> None:
    document = make_explanation().report().document(lang=lang).model_dump(mode="json")

    statements = [one for part in ("findings", "impression", "basis") for one in document["draft"][part]]

    assert len(statements) > 8
    for statement in statements:
        assert statement["sources"]
        for source in statement["sources"]:
            _resolve(document, source)


def test_the_draft_tells_what_is_there_from_history_and_leaves_anatomy_and_suppositions_out() -> None:
    def mention(name: str, kind: str = "disease", status: str = "present", when: str = "recent") -> MentionEvidence:
        return MentionEvidence(
            start=0, end=1, text="x", concept=f"X:{name}", name=name, kind=kind, status=status,
            experiencer="patient", temporality=when, score=1.0,
        )  # fmt: skip

    mentions = (
        mention("Stroke", when="historical"),
        mention("Abscess", when="hypothetical"),
        mention("Vertebral artery", kind="anatomy", status="absent"),
        mention("Stenosis", status="absent", when="historical"),
        *(mention(f"Finding {number}", kind="finding") for number in range(14)),
    )

    draft = replace(make_explanation(), mentions=mentions).report().document().draft
    lines = [statement.text for statement in draft.findings]

    assert "The report states as history: Stroke." in lines
    assert "The report excludes: Stenosis." in lines
    assert [line for line in lines if "states as present" in line] == [
        f"The report states as present: {', '.join(f'Finding {number}' for number in range(12))} and 2 more."
    ]


def test_pointer_escapes_what_the_rfc_says() -> None:
    assert pointer("tasks", "a/b~c", 0) == "/tasks/a~1b~0c/0"


@pytest.mark.bad_input("I10")
def test_abstention_close_call_and_prediction_set_are_said() -> None:
    text = _lines()

    assert "Grade: no answer. Both are nearly equally probable." in text
    assert "At 90% coverage it is one of: Low grade, High grade." in text
    assert "close call" not in text  # the set says it already


@pytest.mark.bad_input("I10")
def test_case_outside_the_training_data_is_said_first_in_the_impression() -> None:
    far = OutOfDistribution(score=9.0, threshold=2.5, is_flagged=True)

    document = make_explanation(out_of_distribution=far).report().document()

    assert document.draft.impression[0].text.startswith("The case lies outside the training data (distance 9,")


@pytest.mark.bad_input("F5")
def test_no_path_is_said_where_the_graph_has_none() -> None:
    assert "“Grade”: the knowledge graph holds no path from this case's evidence to “Low grade”." in _lines()


def test_failed_test_of_an_explanation_is_said() -> None:
    assert "The explanation of “Side” did not pass 1 of 2 tests: randomisation." in _lines()


def test_region_that_was_not_found_is_said() -> None:
    explained = make_explanation()
    region = explained.diagnosis.regions["tumour"]
    empty = replace(region, mask=region.mask * 0, peak_probability=0.2)

    assert "Tumour: nothing was marked; highest voxel probability 0.20." in _lines(regions={"tumour": empty})


def _on(affine_ras: np.ndarray, shape: tuple[int, int, int]) -> tuple[str, str]:
    """What the draft says of the only volume and region of a case on this grid."""
    explained = make_explanation()
    mask = np.zeros(shape, dtype=np.uint8)
    mask[2:4, 2:4, 0] = 1
    region = replace(explained.diagnosis.regions["tumour"], mask=mask, affine_ras=affine_ras)
    volume = Volume(voxels=np.ones((1, *shape), dtype=np.float32), affine_ras=affine_ras, modality="MR")
    case = replace(explained.case, volumes={"flair": volume})
    diagnosis = replace(explained.diagnosis, regions={"tumour": region})
    document = replace(explained, case=case, diagnosis=diagnosis, tasks={}).report().document()
    return document.draft.findings[0].text, document.draft.findings[1].text


def test_slices_are_counted_in_the_plane_of_acquisition() -> None:
    volume, text = _on(np.diag([1.0, 5.0, 1.0, 1.0]), (8, 6, 8))

    assert "8 × 6 × 8 voxels, 1 × 5 × 1 mm" in volume
    assert "slices 3–4 of 6 counted from the back, largest cross-section in slice 3" in text


def test_no_size_is_claimed_in_a_picture() -> None:
    volume, text = _on(np.eye(4), (8, 8, 1))

    assert "8 × 8 × 1 voxels, size not stated" in volume
    assert "4 voxels (their size is unknown)" in text
    assert "ml" not in text


def test_several_answers_can_be_true_at_once() -> None:
    task = make_explanation().diagnosis.tasks["side"]
    both = replace(task, kind="multilabel", probabilities=[0.7, 0.9], prediction_set=("left", "right"))
    neither = replace(task, kind="multilabel", probabilities=[0.1, 0.2], prediction_set=())

    assert "Side: Left side, Right side, likely" in _lines(tasks={"side": both})
    assert "Side: none above its threshold, uncertain" in _lines(tasks={"side": neither})


def test_which_findings_are_answered_goes_by_their_own_thresholds() -> None:
    task = make_explanation().diagnosis.tasks["side"]
    rare = replace(task, kind="multilabel", probabilities=[0.3, 0.6], prediction_set=("left",))

    text = _lines(tasks={"side": rare})

    assert "Side: Left side, more likely than not" in text
    assert "At 90% coverage" not in text  # thresholds are no prediction set


@pytest.mark.parametrize(
    ("confidence", "word"), [(0.95, "very_likely"), (0.94, "likely"), (0.79, "leaning"), (0.59, "uncertain")]
)
def test_words_for_probability_follow_their_legend(confidence: float, word: str) -> None:
    task = make_explanation().report().content.tasks["side"]

    assert certainty(task.model_copy(update={"confidence": confidence})) == word


def test_abstained_task_has_no_word_of_certainty() -> None:
    task: TaskPart = make_explanation().report().content.tasks["grade"]

    assert certainty(task) == "abstained"


def test_a_long_prediction_set_that_the_reason_counts_is_not_listed_again() -> None:
    task: TaskPart = make_explanation().report().content.tasks["grade"]
    reason = "At 80% coverage 9 answers (first A, B, C) cannot be told apart."

    def said(prediction_set: tuple[str, ...]) -> bool:
        return says_set(task.model_copy(update={"prediction_set": prediction_set, "abstain_reason": reason}))

    names = tuple(label.name for label in task.classes)
    assert said(names[:1] * 9)
    assert not said(names[:2])


def test_languages_hold_the_same_texts_and_blanks() -> None:
    def blanks(table: dict[str, Any]) -> dict[str, set[str | None]]:
        return {
            f"{section}.{name}": {field for _, _, field, _ in string.Formatter().parse(str(text)) if field}
            for section, texts in table.items()
            for name, text in texts.items()
        }

    assert blanks(_table("en")) == blanks(_table("zh"))
    assert len(_table("en")["limits"]["items"]) == len(_table("zh")["limits"]["items"])


def test_language_without_texts_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected one of en, zh"):
        load_texts("fr")


def test_coverage_is_written_as_percent() -> None:
    assert [percent(value) for value in (0.9, 0.95, 0.975)] == ["90%", "95%", "97.5%"]
