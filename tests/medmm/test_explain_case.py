"""The explanation of a case: what adds up, what lies where it says, what is empty when there is nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny_models as tiny
import torch
from scipy import stats

from kg import KnowledgeGraph
from medmm.diagnose import Diagnoser
from medmm.encoders.text import TextEncoder
from medmm.explain.case import card_sections
from medmm.explain.gradients import contributions, trace
from medmm.explain.text import pieces_to_words
from medmm.explain.volume import lesion_contributions
from medmm.results import NOTICEABLE, Explanation
from medmm.types import Case, Record, Report

GIVEN = ("record", "report", "volumes", "record report", "report volumes", "record report volumes")


@pytest.fixture(scope="module")
def diagnoser(graph: KnowledgeGraph, text_encoder: TextEncoder) -> Diagnoser:
    model = tiny.build_model(tiny.build_config(graph=graph, text="bert"))
    return tiny.build_diagnoser(model, text_encoder=text_encoder, graph=graph)


@pytest.fixture(scope="module")
def explained(diagnoser: Diagnoser) -> Explanation:
    """A case of all modalities and a kind that its volume speaks for, with tests of the explanation."""
    return explain_spoken_for(diagnoser, tiny.build_case(1), "kind", "full")


def explain(diagnoser: Diagnoser, case: Case, level: str = "fast") -> Explanation:
    return diagnoser.explain(case, diagnoser.diagnose(case), level)  # type: ignore[arg-type]  # a literal


def explain_spoken_for(diagnoser: Diagnoser, case: Case, task: str, level: str = "fast") -> Explanation:
    """The explanation of the first answer that the volume speaks for; it cannot speak against every one of them."""
    diagnosis = diagnoser.diagnose(case)
    for label in diagnosis.tasks[task].classes:
        asked = replace(diagnosis.tasks[task], prediction=label.name)
        answered = replace(diagnosis, tasks={**diagnosis.tasks, task: asked})
        explanation = diagnoser.explain(case, answered, level)  # type: ignore[arg-type]  # a literal
        if explanation.tasks[task].volumes:
            return explanation
    raise AssertionError("no answer has a heatmap")


@pytest.mark.parametrize("task", ["kind", "grade", "side"])
def test_modality_shares_add_up_to_the_probability_less_the_baseline(explained: Explanation, task: str) -> None:
    part = explained.tasks[task]

    total = sum(share.share for share in part.modalities)

    assert total == pytest.approx(explained.diagnosis.tasks[task].confidence - part.baseline_probability, abs=1e-5)


@pytest.mark.parametrize("given", GIVEN)
def test_shares_add_up_whatever_is_given(diagnoser: Diagnoser, given: str) -> None:
    full = tiny.build_case(1)
    case = replace(
        full,
        volumes=full.volumes if "volumes" in given else {},
        report=full.report if "report" in given else None,
        record=full.record if "record" in given else None,
    )

    explanation = explain(diagnoser, case)

    part = explanation.tasks["kind"]
    gained = explanation.diagnosis.tasks["kind"].confidence - part.baseline_probability
    assert sum(share.share for share in part.modalities) == pytest.approx(gained, abs=1e-5)


@pytest.mark.bad_input("E2")
def test_an_absent_modality_has_no_share(diagnoser: Diagnoser) -> None:
    explanation = explain(diagnoser, tiny.build_case(1, text=None))

    shares = {share.modality: share for share in explanation.tasks["kind"].modalities}
    assert not shares["text"].is_present
    assert shares["text"].share == 0


def test_the_baseline_is_the_same_for_every_case(diagnoser: Diagnoser) -> None:
    cases = [tiny.build_case(1), replace(tiny.build_case(2), volumes={})]
    diagnoses = [diagnoser.diagnose(case) for case in cases]
    same = [
        replace(diagnosis, tasks={**diagnosis.tasks, "kind": replace(diagnosis.tasks["kind"], prediction="other")})
        for diagnosis in diagnoses
    ]

    baselines = [
        diagnoser.explain(case, diagnosis).tasks["kind"].baseline_probability
        for case, diagnosis in zip(cases, same, strict=True)
    ]

    assert baselines[0] == pytest.approx(baselines[1], abs=1e-6)


@pytest.mark.parametrize("task", ["kind", "side"])
def test_the_heatmap_lies_on_the_source_grid(diagnoser: Diagnoser, task: str) -> None:
    phantom = tiny.build_phantom(1, (40, 30, 5))

    explanation = explain_spoken_for(diagnoser, Case(case_id="a", volumes=phantom.volumes), task)
    attribution = explanation.tasks[task].volumes[0]

    assert attribution.values.shape == (40, 30, 5)
    assert attribution.role == "flair"
    np.testing.assert_array_equal(attribution.affine_ras, phantom.volumes["flair"].affine_ras)


@pytest.mark.bad_input("I7")
def test_an_answer_that_the_volume_speaks_against_has_no_heatmap(diagnoser: Diagnoser) -> None:
    case = tiny.build_case(1, text=None)
    diagnosis = diagnoser.diagnose(case)
    traced = trace(diagnoser.reader, [diagnoser.view(case)])

    for index, label in enumerate(tiny.KIND.classes):
        asked = replace(diagnosis.tasks["kind"], prediction=label.name)
        explanation = diagnoser.explain(case, replace(diagnosis, tasks={**diagnosis.tasks, "kind": asked}))
        gradient = contributions(traced, tiny.KIND, [index])[0].lesion
        assert gradient is not None
        voxels = lesion_contributions(gradient, diagnoser.view(case), diagnoser.model)
        assert bool(explanation.tasks["kind"].volumes) == (float(voxels.sum()) > 0)


def test_voxels_share_out_exactly_what_the_lesion_contributed(diagnoser: Diagnoser) -> None:
    view = diagnoser.view(tiny.build_case(1))
    gradient = contributions(trace(diagnoser.reader, [view]), tiny.KIND, [0])[0].lesion
    assert gradient is not None
    assert view.features.summary is not None

    total = lesion_contributions(gradient, view, diagnoser.model).sum()

    usual = diagnoser.model.volume_tokens.standard_lesion.mean
    expected = (gradient * (view.features.summary.lesion[0] - usual)).sum()
    torch.testing.assert_close(total, expected, rtol=1e-3, atol=1e-3)


def test_the_heatmap_runs_from_zero_to_one(explained: Explanation) -> None:
    values = explained.tasks["kind"].volumes[0].values

    assert values.min() >= 0
    assert values.max() == 1


@pytest.mark.bad_input("E3")
def test_words_are_where_the_report_has_them(explained: Explanation) -> None:
    words = explained.tasks["kind"].words

    assert [word.text for word in words] == ["Ring", "enhancement", "on", "the", "left", "No", "dural", "tail"]
    assert all(tiny.REPORT[word.start : word.end] == word.text for word in words)
    assert {word.section for word in words} == {"findings"}


def test_words_of_a_report_longer_than_the_window_are_all_there(diagnoser: Diagnoser) -> None:
    text = "Ring enhancement on the left. " * 8

    words = explain(diagnoser, tiny.build_case(1, text=text)).tasks["kind"].words

    assert len(words) == 40
    assert all(word.value != 0 for word in words[-5:])


def test_a_word_gets_the_sum_of_its_pieces(text_encoder: TextEncoder) -> None:
    report = Report(text="Zebra tail.")
    encoded = text_encoder.encode(report.text)
    spans = encoded.offsets[0].tolist()

    words = pieces_to_words(torch.ones(1, len(spans)), encoded, report)

    assert [(word.text, word.value) for word in words] == [("Zebra", 5.0), ("tail", 1.0)]


def test_mentions_are_listed_with_their_status(explained: Explanation) -> None:
    assert [(item.concept, item.status) for item in explained.mentions] == [
        (tiny.RING, "present"),
        (tiny.TAIL, "absent"),
    ]


def test_the_path_from_the_finding_to_its_disease_is_found(diagnoser: Diagnoser) -> None:
    case = tiny.build_case(1)
    diagnosis = diagnoser.diagnose(case)
    kind = replace(diagnosis.tasks["kind"], prediction="glioblastoma")

    explanation = diagnoser.explain(case, replace(diagnosis, tasks={**diagnosis.tasks, "kind": kind}))

    path = explanation.tasks["kind"].paths[0]
    assert [(hop.subject, hop.object) for hop in path.hops] == [(tiny.GLIOBLASTOMA, tiny.RING)]
    assert path.origin == "report"


@pytest.mark.parametrize("text", [None, "No ring enhancement.", "Glioblastoma on the left."])
def test_without_evidence_there_is_no_path(diagnoser: Diagnoser, text: str | None) -> None:
    explanation = explain(diagnoser, tiny.build_case(1, text=text))

    assert all(part.paths == () for part in explanation.tasks.values())


def test_each_known_field_of_the_record_is_weighed(explained: Explanation) -> None:
    assert [(item.name, item.value) for item in explained.tasks["kind"].fields] == [("age_years", "61"), ("sex", "M")]


def test_a_record_alone_can_be_explained(diagnoser: Diagnoser) -> None:
    explanation = explain(diagnoser, Case(case_id="a", record=Record(values={"sex": "F"})))

    part = explanation.tasks["kind"]
    assert part.volumes == () and part.words == () and part.concepts == ()
    assert [item.name for item in part.fields] == ["sex"]
    shares = {share.modality: share.share for share in part.modalities}
    assert part.fields[0].attribution == pytest.approx(shares["record"], abs=1e-6)


def test_a_fast_explanation_is_not_tested(diagnoser: Diagnoser) -> None:
    assert explain(diagnoser, tiny.build_case(1)).tasks["kind"].checks == ()


def test_a_full_explanation_tests_heatmap_and_words(explained: Explanation) -> None:
    names = [check.name for check in explained.tasks["kind"].checks]

    assert names == [
        "volume deletion",
        "volume insertion",
        "weights randomisation",
        "repeatability",
        "word comprehensiveness",
        "word sufficiency",
    ]


def test_every_test_that_was_not_passed_is_noted(explained: Explanation) -> None:
    failed = [check.sentence for part in explained.tasks.values() for check in part.checks if not check.is_passed]

    assert [note.message for note in explained.notes] == failed


LOWER_IS_BETTER = {"volume deletion", "word sufficiency", "weights randomisation"}


def test_a_test_is_passed_only_if_it_is_better_than_its_reference(explained: Explanation) -> None:
    checks = [check for part in explained.tasks.values() for check in part.checks]

    assert checks
    for check in checks:
        better = check.reference - check.value if check.name in LOWER_IS_BETTER else check.value - check.reference
        needed = 0 if check.name in ("weights randomisation", "repeatability") else NOTICEABLE
        assert check.is_passed == (better >= needed)


def test_the_same_case_gets_the_same_explanation(diagnoser: Diagnoser, explained: Explanation) -> None:
    again = explain_spoken_for(diagnoser, tiny.build_case(1), "kind", "full")

    np.testing.assert_array_equal(again.tasks["kind"].volumes[0].values, explained.tasks["kind"].volumes[0].values)
    assert again.tasks["kind"].checks == explained.tasks["kind"].checks


def test_explaining_changes_no_weight(diagnoser: Diagnoser) -> None:
    before = {name: value.clone() for name, value in diagnoser.model.state_dict().items()}

    explain(diagnoser, tiny.build_case(2), "full")

    assert all(torch.equal(value, before[name]) for name, value in diagnoser.model.state_dict().items())


def test_the_sections_of_the_model_card_are_carried(explained: Explanation) -> None:
    assert explained.model_card == {"Data": "Phantoms.", "Limits": "Knows nothing."}


def test_a_card_without_sections_has_none() -> None:
    assert card_sections("# Only a title\n\nText.") == {}


def values_of(diagnoser: Diagnoser, case: Case) -> np.ndarray:
    """Contributions of the word pieces to the first kind over the others."""
    view = diagnoser.view(case)
    pieces = contributions(trace(diagnoser.reader, [view]), tiny.KIND, [0])[0].pieces
    assert pieces is not None
    return pieces.flatten().numpy()


def test_word_attributions_follow_the_weights_and_not_the_words(
    diagnoser: Diagnoser, graph: KnowledgeGraph, text_encoder: TextEncoder
) -> None:
    case = tiny.build_case(1, text="Ring enhancement on the left. " * 5)
    own = values_of(diagnoser, case)

    others = []
    for seed in range(1, 7):
        model = tiny.build_model(tiny.build_config(graph=graph, text="bert"), seed=seed)
        others.append(values_of(tiny.build_diagnoser(model, text_encoder=text_encoder, graph=graph), case))

    correlations = [stats.spearmanr(own, other).statistic for other in others]
    assert abs(np.mean(correlations)) < 0.5


def test_the_dictionary_holds_every_part_and_no_sentence_of_the_report(explained: Explanation) -> None:
    why = explained.to_dict()["tasks"]["kind"]["why"]

    assert [(part["start"], part["end"]) for part in why["sentences"]] == [(0, 29), (30, 44)]
    assert [part["kind"] for part in why["counterfactuals"]] == ["sentences", "concepts"]
    assert why["text_method"] == "gradient x input"
    assert "on the left" not in json.dumps(why)
