"""Several cases explained in one pass: the reasons of each are those it has alone, and the large networks rest."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import tiny_models as tiny
import torch
from torch import nn

from kg import KnowledgeGraph
from medmm.checkpoint import LoadedModel
from medmm.config import ImagesSpec
from medmm.device import Precision
from medmm.diagnose import Diagnoser
from medmm.encoders.text import TextEncoder
from medmm.explain.gradients import contributions, trace
from medmm.fusion.kinds import FUSIONS
from medmm.preprocess_images import ImagePreprocessing
from medmm.results import Explanation, TaskExplanation
from medmm.similar import TrainingCases
from medmm.types import Case, Record

LONG = "Ring enhancement on the left. " * 6 + "No dural tail."


def build_diagnoser(
    graph: KnowledgeGraph,
    text_encoder: TextEncoder,
    *,
    fusion: str = "hybrid",
    precision: Precision = "float32",
    reads_images: bool = False,
) -> Diagnoser:
    config = tiny.build_config(graph=graph, text="bert").model_copy(update={"fusion": fusion})
    labels = tiny.LABELS
    if reads_images:
        images = ImagesSpec(
            network="resnet10", preprocessing=ImagePreprocessing(size_pixels=(32, 32)), is_required=False
        )
        config = config.model_copy(update={"volume": None, "images": images})
        labels = labels.model_copy(update={"tasks": labels.fusion_tasks()})
    similar = TrainingCases(
        embeddings=torch.randn(4, tiny.WIDTH, generator=torch.Generator().manual_seed(0)),
        labels=({"kind": "other"},) * 4,
    )
    loaded = LoadedModel(
        model=tiny.build_model(config, labels),
        weights_sha256="0" * 64,
        card=tiny.CARD,
        metrics={},
        training_cases=similar,
    )
    return Diagnoser(loaded, text_encoder=text_encoder, graph=graph, device=torch.device("cpu"), precision=precision)


def cases() -> list[Case]:
    """As unlike as cases come: other sizes, reports of other lengths, and most with something missing."""
    full = tiny.build_case(1)
    return [
        full,
        replace(tiny.build_case(2, text=LONG), volumes=tiny.build_phantom(2, (32, 32, 9)).volumes),
        tiny.build_case(3, text=None),
        replace(tiny.build_case(4), case_id="report", volumes={}),
        Case(case_id="record", record=Record(values={"sex": "F"})),
        replace(tiny.build_case(5, text="Left."), case_id="no-evidence", record=None),
    ]


def explain_both_ways(diagnoser: Diagnoser, batch: Sequence[Case]) -> Iterator[tuple[Explanation, Explanation]]:
    diagnoses = [diagnoser.diagnose(case) for case in batch]
    together = diagnoser.explain_many(batch, diagnoses)
    alone = [diagnoser.explain(case, diagnosis) for case, diagnosis in zip(batch, diagnoses, strict=True)]
    return zip(together, alone, strict=True)


def assert_alike(ours: TaskExplanation, theirs: TaskExplanation) -> None:
    """Every number of one case's reasons is that of the other's up to rounding, everything else the same."""
    assert (ours.target, ours.paths, ours.text_method) == (theirs.target, theirs.paths, theirs.text_method)
    assert [item.role for item in ours.volumes] == [item.role for item in theirs.volumes]
    for mine, other in zip(ours.volumes, theirs.volumes, strict=True):
        np.testing.assert_allclose(mine.values, other.values, rtol=1e-4, atol=1e-5)
    for part in ("words", "sentences", "fields", "concepts", "modalities"):
        mine, others = numbers_of(ours, part), numbers_of(theirs, part)
        assert mine.keys() == others.keys()
        assert mine == pytest.approx(others, rel=1e-4, abs=1e-6)
    assert ours.baseline_probability == pytest.approx(theirs.baseline_probability, abs=1e-6)


def numbers_of(explained: TaskExplanation, part: str) -> dict[object, float]:
    """What each word, sentence, field, concept or modality contributed."""
    keys = {
        "words": lambda item: (item.start, item.end),
        "sentences": lambda item: (item.start, item.end),
        "fields": lambda item: item.name,
        "concepts": lambda item: item.concept,
        "modalities": lambda item: item.modality,
    }
    values = {"fields": "attribution", "modalities": "share"}
    return {keys[part](item): getattr(item, values.get(part, "value")) for item in getattr(explained, part)}


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_each_case_of_a_batch_has_the_reasons_that_it_has_alone(
    graph: KnowledgeGraph, text_encoder: TextEncoder, fusion: str
) -> None:
    diagnoser = build_diagnoser(graph, text_encoder, fusion=fusion)

    for ours, theirs in explain_both_ways(diagnoser, cases()):
        assert ours.case is theirs.case
        assert ours.tasks.keys() == theirs.tasks.keys()
        for name, part in ours.tasks.items():
            assert_alike(part, theirs.tasks[name])


def test_each_case_of_a_batch_is_like_the_training_cases_that_it_is_like_alone(
    graph: KnowledgeGraph, text_encoder: TextEncoder
) -> None:
    for ours, theirs in explain_both_ways(build_diagnoser(graph, text_encoder), cases()):
        assert [item.case_id for item in ours.similar] == [item.case_id for item in theirs.similar]
        assert [item.similarity for item in ours.similar] == pytest.approx(
            [item.similarity for item in theirs.similar], abs=1e-5
        )


def test_cases_of_images_are_explained_together_as_alone(graph: KnowledgeGraph, text_encoder: TextEncoder) -> None:
    diagnoser = build_diagnoser(graph, text_encoder, reads_images=True)
    explained = list(explain_both_ways(diagnoser, cases()))

    assert any(ours.tasks["kind"].volumes for ours, _ in explained)
    for ours, theirs in explained:
        assert_alike(ours.tasks["kind"], theirs.tasks["kind"])


def test_the_batch_of_reasons_is_not_one_reason(graph: KnowledgeGraph, text_encoder: TextEncoder) -> None:
    """The other tests would pass if every case got the same numbers alone, too."""
    reader = build_diagnoser(graph, text_encoder).reader
    batch = [tiny.build_case(1), tiny.build_case(2, text="Left.")]

    first, second = contributions(trace(reader, [reader.read(case) for case in batch]), tiny.KIND, [0, 1])

    assert first.lesion is not None and second.lesion is not None
    assert not torch.allclose(first.lesion, second.lesion, rtol=0.1)


@contextmanager
def counted(*modules: nn.Module) -> Iterator[list[nn.Module]]:
    """Which of some networks were asked, in order."""
    asked: list[nn.Module] = []
    hooks = [module.register_forward_pre_hook(lambda own, _: asked.append(own)) for module in modules]
    yield asked
    for hook in hooks:
        hook.remove()


def test_a_fast_explanation_asks_no_large_network(graph: KnowledgeGraph, text_encoder: TextEncoder) -> None:
    diagnoser = build_diagnoser(graph, text_encoder)
    batch = cases()
    diagnoser.read_together(batch)
    diagnoses = [diagnoser.diagnose(case) for case in batch]

    with counted(diagnoser.model.trunk, text_encoder.network, diagnoser.model) as asked:
        diagnoser.explain_many(batch, diagnoses)

    one_for_all_and_one_a_case_for_its_shares = 1 + len(batch)
    assert asked == [diagnoser.model] * one_for_all_and_one_a_case_for_its_shares


def test_reasons_in_bfloat16_are_those_in_float32_but_for_rounding(
    graph: KnowledgeGraph, text_encoder: TextEncoder
) -> None:
    exact, rounded = (build_diagnoser(graph, text_encoder, precision=name) for name in ("float32", "bfloat16"))
    batch = cases()
    diagnoses = [exact.diagnose(case) for case in batch]

    pairs = zip(exact.explain_many(batch, diagnoses), rounded.explain_many(batch, diagnoses), strict=True)

    for ours, theirs in pairs:
        for name, part in ours.tasks.items():
            other = theirs.tasks[name]
            for mine, its in zip(part.volumes, other.volumes, strict=True):
                assert np.corrcoef(mine.values.ravel(), its.values.ravel())[0, 1] > 0.99
            for kind in ("words", "fields", "modalities"):
                mine, its = (np.array(list(numbers_of(one, kind).values())) for one in (part, other))
                np.testing.assert_allclose(its, mine, atol=0.05 * max(np.abs(mine).max(initial=0), 1e-3))
