"""A loaded model at work: what it answers, what it refuses, what it says of itself."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import tiny_models as tiny
import torch

import kg
from kg import KnowledgeGraph
from medmm.checkpoint import save_model
from medmm.config import Calibration, Labels
from medmm.device import choose_device
from medmm.diagnose import Diagnoser, find_model, load_model
from medmm.encoders.text import TextEncoder
from medmm.errors import InputError, UsageError
from medmm.types import Case, Report


@pytest.fixture(scope="module")
def diagnoser(graph: KnowledgeGraph, tmp_path_factory: pytest.TempPathFactory) -> Diagnoser:
    """A model of all four modalities that needs none of them."""
    text_encoder = TextEncoder(str(tiny.write_tiny_bert(tmp_path_factory.mktemp("bert"))), 64)
    model = tiny.build_model(tiny.build_config(graph=graph, text="bert"))
    return tiny.build_diagnoser(model, text_encoder=text_encoder, graph=graph)


def test_every_task_is_answered_with_probabilities(diagnoser: Diagnoser) -> None:
    diagnosis = diagnoser.diagnose(tiny.build_case(1))

    assert list(diagnosis.tasks) == ["kind", "grade", "side"]
    for result in diagnosis.tasks.values():
        assert result.probabilities.sum() == pytest.approx(1, abs=1e-6)


def test_the_prediction_is_the_most_probable_class(diagnoser: Diagnoser) -> None:
    result = diagnoser.diagnose(tiny.build_case(1)).tasks["kind"]

    assert result.confidence == result.probabilities.max()


def test_an_uncalibrated_model_excludes_no_class(diagnoser: Diagnoser) -> None:
    result = diagnoser.diagnose(tiny.build_case(1)).tasks["kind"]

    assert result.prediction_set == ("glioblastoma", "meningioma", "other")
    assert result.abstained


def test_masks_lie_on_the_source_grid(diagnoser: Diagnoser) -> None:
    phantom = tiny.build_phantom(1, (40, 30, 5))

    region = diagnoser.diagnose(Case(case_id="a", volumes=phantom.volumes)).regions["lesion"]

    assert region.mask.shape == (40, 30, 5)
    assert region.role == "flair"
    np.testing.assert_array_equal(region.affine_ras, phantom.volumes["flair"].affine_ras)


def test_the_result_says_what_was_there(diagnoser: Diagnoser) -> None:
    diagnosis = diagnoser.diagnose(tiny.build_case(1, text=None))

    assert diagnosis.present == {"volume": True, "text": False, "record": True, "graph": False}


@pytest.mark.bad_input("E2")
def test_an_optional_volume_may_be_missing(diagnoser: Diagnoser) -> None:
    diagnosis = diagnoser.diagnose(replace(tiny.build_case(1), volumes={}))

    assert diagnosis.regions == {}
    assert diagnosis.tasks["side"].abstain_reason == "There is no volume to answer this from."


@pytest.mark.bad_input("E2")
def test_a_case_with_nothing_to_read_is_refused(diagnoser: Diagnoser) -> None:
    with pytest.raises(InputError, match="volume, report or record") as caught:
        diagnoser.diagnose(Case(case_id="a"))

    assert caught.value.code == "modality.missing"


@pytest.mark.bad_input("E2")
def test_a_required_volume_that_is_missing_is_refused() -> None:
    diagnoser = tiny.build_diagnoser(tiny.build_model(tiny.build_config(is_required=True)))

    with pytest.raises(InputError, match="one of the kinds t1, flair") as caught:
        diagnoser.diagnose(replace(tiny.build_case(1), volumes={}))

    assert caught.value.code == "modality.missing"


def test_a_report_given_to_a_model_without_text_is_noted() -> None:
    diagnoser = tiny.build_diagnoser(tiny.build_model(tiny.build_config()))

    diagnosis = diagnoser.diagnose(tiny.build_case(1))

    assert "trained without reports" in next(n.message for n in diagnosis.notes if n.code == "modality.missing")
    assert not diagnosis.present["text"]


def test_a_report_given_to_a_model_without_text_changes_no_answer(graph: KnowledgeGraph) -> None:
    diagnoser = tiny.build_diagnoser(tiny.build_model(tiny.build_config(graph=graph)), graph=graph)

    answers = [diagnoser.diagnose(tiny.build_case(1, text=text)).tasks["kind"] for text in (None, tiny.REPORT)]

    np.testing.assert_array_equal(answers[0].probabilities, answers[1].probabilities)


def test_the_place_is_not_named_when_nothing_is_found() -> None:
    model = tiny.build_model(tiny.build_config())
    tiny.mark(model, -20)

    diagnosis = tiny.build_diagnoser(model).diagnose(tiny.build_case(1))

    assert not diagnosis.regions["lesion"].is_found
    assert diagnosis.tasks["side"].abstain_reason == "Nothing was found in the volume."


@pytest.mark.bad_input("B15", "I10")
def test_a_case_unlike_the_training_cases_is_not_answered() -> None:
    model = tiny.build_model(tiny.build_config())
    tiny.mark(model, 20)
    model.ood.threshold.fill_(-1.0)

    diagnosis = tiny.build_diagnoser(model).diagnose(tiny.build_case(1))

    assert diagnosis.out_of_distribution is not None
    assert diagnosis.out_of_distribution.is_flagged
    assert "unlike the cases" in diagnosis.tasks["kind"].abstain_reason


def test_the_same_case_twice_gives_the_same_numbers(diagnoser: Diagnoser) -> None:
    first, second = (diagnoser.diagnose(tiny.build_case(1)) for _ in range(2))

    for name, result in first.tasks.items():
        np.testing.assert_array_equal(result.probabilities, second.tasks[name].probabilities)


def test_another_case_with_the_same_id_is_read_anew(diagnoser: Diagnoser) -> None:
    first = tiny.build_case(1)
    other = replace(first, report=Report(text="Dural tail."))

    answers = [diagnoser.diagnose(case).tasks["kind"].probabilities for case in (first, other)]

    assert not np.array_equal(answers[0], answers[1])


def test_the_spec_says_how_to_feed_the_model(diagnoser: Diagnoser, graph: KnowledgeGraph) -> None:
    spec = diagnoser.spec

    assert spec.modalities == ("volume", "text", "record", "graph")
    assert spec.roles == tiny.ROLES
    assert spec.record_fields == ("age_years", "sex")
    assert spec.graph_hash == graph.hash


@pytest.fixture
def folder_of_another_graph(tmp_path, graph: KnowledgeGraph, monkeypatch: pytest.MonkeyPatch) -> str:  # type: ignore[no-untyped-def]
    """A model trained with another graph than the installed one, which here is the tiny one."""
    config = tiny.build_config(graph=graph)
    trained_with = config.graph.model_copy(update={"hash": "f" * 64})  # type: ignore[union-attr]  # it has one
    model = tiny.build_model(config.model_copy(update={"graph": trained_with}))
    save_model(tmp_path, model, metrics={}, card=tiny.CARD)
    monkeypatch.setattr(kg, "load_default", lambda: graph, raising=False)
    return str(tmp_path)


@pytest.mark.bad_input("F7")
def test_another_knowledge_graph_is_refused(folder_of_another_graph: str) -> None:
    with pytest.raises(UsageError, match="ffffffffffff that the model was trained with") as caught:
        load_model(folder_of_another_graph, "cpu")

    assert caught.value.code == "kg.version"


@pytest.mark.bad_input("F7")
def test_another_knowledge_graph_that_is_forced_is_noted_on_every_result(folder_of_another_graph: str) -> None:
    diagnoser = load_model(folder_of_another_graph, "cpu", allow_other_graph=True)

    diagnosis = diagnoser.diagnose(tiny.build_case(1))

    assert "kg.version" in [note.code for note in diagnosis.notes]


def test_a_model_that_is_not_there_is_named_with_what_is() -> None:
    with pytest.raises(UsageError, match="no-such-model") as caught:
        find_model("no-such-model")

    assert caught.value.code == "model.incomplete"


@pytest.mark.bad_input("G7")
@pytest.mark.parametrize("name", ["tpu", "mps", "cuda:99", "", "cpu:x"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_device(name)

    assert caught.value.code == "device.none"


@pytest.mark.bad_input("G7")
def test_the_device_chosen_by_auto_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "medmm.device"):
        device = choose_device("auto")

    assert f"Running on {device.type}." in caplog.messages


@pytest.mark.bad_input("I9")
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_answers_and_explains_as_the_cpu_does(graph: KnowledgeGraph, diagnoser: Diagnoser) -> None:
    case, on_cpu = tiny.build_case(1), diagnoser.diagnose(tiny.build_case(1))
    model = tiny.build_model(tiny.build_config(graph=graph, text="bert"))
    other = Diagnoser(
        replace(diagnoser.loaded, model=model),
        text_encoder=diagnoser.reader.text_encoder,
        graph=graph,
        device=torch.device("cuda"),
    )

    diagnosis = other.diagnose(case)

    assert other.explain(case, diagnosis, "full").tasks["kind"].volumes[0].values.shape == (32, 32, 6)
    for name, result in diagnosis.tasks.items():
        np.testing.assert_allclose(result.probabilities, on_cpu.tasks[name].probabilities, atol=1e-3)


def test_a_model_keeps_silent_below_the_confidence_that_it_asks_for() -> None:
    labels = Labels(
        tasks=tuple(
            task.model_copy(update={"calibration": Calibration(quantile=0.0, min_confidence=0.999)})
            for task in tiny.LABELS.tasks
        )
    )
    diagnoser = tiny.build_diagnoser(tiny.build_model(tiny.build_config(), labels))

    result = diagnoser.diagnose(tiny.build_case(1)).tasks["kind"]

    assert result.abstained
    assert "below a probability of 1.00" in result.abstain_reason


def test_a_model_may_tell_outliers_by_the_energy_of_its_answers() -> None:
    config = tiny.build_config(has_volume=False).model_copy(update={"outlier": "energy"})
    model = tiny.build_model(config, Labels(tasks=(tiny.KIND, tiny.GRADE)))
    model.energy.threshold.fill_(-100.0)

    outlier = tiny.build_diagnoser(model).diagnose(tiny.build_case(1)).out_of_distribution

    assert outlier is not None
    assert outlier.is_flagged


def test_half_precision_gives_nearly_the_same_answers_and_says_so(diagnoser: Diagnoser) -> None:
    """bfloat16 keeps 8 bits: a relative error of 2^-9 a product, well under 0.02 in a probability here."""
    reader = diagnoser.reader
    half = Diagnoser(
        diagnoser.loaded,
        text_encoder=reader.text_encoder,
        graph=reader.graph,
        device=diagnoser.device,
        precision="bfloat16",
    )
    case = tiny.build_case(1)

    exact, rough = diagnoser.diagnose(case), half.diagnose(case)

    assert (exact.model.precision, rough.model.precision) == ("float32", "bfloat16")
    differences = [
        np.abs(rough.tasks[name].probabilities - exact.tasks[name].probabilities).max() for name in exact.tasks
    ]
    assert 0 < max(differences) < 0.02


@pytest.mark.slow
def test_compiled_networks_give_the_same_answers() -> None:
    model = tiny.build_model(tiny.build_config(), Labels(tasks=(tiny.KIND,)))
    case = tiny.build_case(1)
    expected = tiny.build_diagnoser(model).diagnose(case).tasks["kind"].probabilities
    compiled = tiny.build_diagnoser(model)

    compiled.compile(backend="eager")  # traced as by any backend; generating code takes minutes on a CPU

    np.testing.assert_allclose(compiled.diagnose(case).tasks["kind"].probabilities, expected, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_numbers_of_the_cpu() -> None:
    model = tiny.build_model(tiny.build_config(), Labels(tasks=(tiny.KIND,)))
    case = tiny.build_case(1)
    expected = tiny.build_diagnoser(model).diagnose(case).tasks["kind"].probabilities

    on_gpu = Diagnoser(
        tiny.build_diagnoser(model).loaded, text_encoder=None, graph=None, device=torch.device("cuda")
    ).diagnose(case)

    np.testing.assert_allclose(on_gpu.tasks["kind"].probabilities, expected, atol=1e-3)
