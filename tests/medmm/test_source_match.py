"""What the graph's sources say of candidates as one more opinion of a ranking task."""

from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
import torch

from medmm.checkpoint import load_checkpoint, save_model
from medmm.config import Labels
from medmm.decision import GRAPH, TaskDecision
from medmm.encoders.source_match import SourceMatch, source_match
from medmm.encoders.text import TextEncoder
from medmm.explain.removal import without_sentences
from medmm.fusion.base import Fused
from medmm.inputs import CaseReader, collate
from medmm.ranking import rank_concepts
from medmm.types import Case, Report

CANDIDATES, WHICH = tiny.CANDIDATES, tiny.WHICH
TEXT = "Ring enhancement. A dural tail is seen."


@pytest.fixture
def reader(tmp_path: Path) -> CaseReader:
    """Front of a model that ranks by the graph's sources, of a report and nothing else."""
    graph, bert = tiny.build_graph(), str(tiny.write_tiny_bert(tmp_path))
    plain = tiny.build_config(graph=graph, text=bert, has_volume=False)
    assert plain.graph is not None
    config = plain.model_copy(update={"graph": plain.graph.model_copy(update={"sources": True})})
    return CaseReader(tiny.build_model(config, Labels(tasks=(WHICH,))), TextEncoder(bert, 64), graph)


def test_a_finding_that_the_graph_ties_to_a_candidate_speaks_for_it() -> None:
    match = SourceMatch(tiny.build_graph(), CANDIDATES)

    assert match.scores("A dural tail.").argmax() == 1
    assert match.scores("Ring enhancement.").argmax() == 0
    assert match.scores("He fell from a ladder.").argmax() == 2
    assert (match.scores("Nothing that anybody knows.") == 0).all()
    assert match.scores("A dural tail.").std() == pytest.approx(1, abs=1e-5)


def test_a_graph_is_indexed_once_and_every_graph_by_itself() -> None:
    graph = tiny.build_graph()

    assert source_match(graph, CANDIDATES) is source_match(graph, list(CANDIDATES))
    assert source_match(graph, CANDIDATES[:2]) is not source_match(graph, CANDIDATES)
    assert source_match(tiny.build_graph(), CANDIDATES) is not source_match(graph, CANDIDATES)


@pytest.mark.parametrize("level", ["joint", "mean", "learned", "both"])
def test_an_absent_graph_changes_no_ranking(level: str) -> None:
    torch.manual_seed(0)
    decision = TaskDecision("ranking", 8, 3, level=level, reads_sources=True)  # type: ignore[arg-type]  # one of its levels
    fused = Fused(case=torch.randn(1, 8), own=torch.randn(1, 4, 8))
    present = torch.tensor([[False, True, True, True]])
    absent = present.clone()
    absent[:, GRAPH] = False
    one, other = torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[0.0, 9.0, 0.0]])

    def ranked(has: torch.Tensor, sources: torch.Tensor) -> torch.Tensor:
        return decision(fused, has, None, None, sources)[0]

    assert ranked(present, one).argmax() == 0
    assert ranked(present, other).argmax() == 1
    torch.testing.assert_close(ranked(absent, one), ranked(absent, other))


def test_a_model_reads_its_candidates_sources_alone_and_in_a_batch(reader: CaseReader) -> None:
    views = [reader.read(Case(case_id="a", report=Report(text=text))) for text in (TEXT, "Ring enhancement.")]

    with torch.no_grad():
        together = reader.model(collate([view.features for view in views], reader)).logits["which"]
        alone = [reader.model(collate([view.features], reader)).logits["which"] for view in views]
        reader.model.decisions["which"].source_weight.zero_()
        unheard = reader.model(collate([view.features for view in views], reader)).logits["which"]

    torch.testing.assert_close(together, torch.cat(alone))
    assert not torch.allclose(together, unheard)


def test_a_report_that_is_cut_is_compared_anew(reader: CaseReader) -> None:
    view = reader.read(Case(case_id="a", report=Report(text=TEXT)))

    shorter = without_sentences(reader, view, [(0, len("Ring enhancement."))])

    plain = SourceMatch(tiny.build_graph(), CANDIDATES).scores(" A dural tail is seen.")
    np.testing.assert_array_equal(shorter.sources["which"], plain)
    assert not np.array_equal(view.features.sources["which"], plain)


def test_candidates_that_training_never_saw_are_compared_too(reader: CaseReader) -> None:
    view = reader.read(Case(case_id="a", report=Report(text="A dural tail.")))
    with torch.no_grad():
        reader.model.decisions["which"].source_weight.fill_(50.0)

    ranked = rank_concepts(reader, view, "which", [tiny.GLIOBLASTOMA, tiny.MENINGIOMA])

    assert [item.concept for item in ranked] == [tiny.MENINGIOMA, tiny.GLIOBLASTOMA]


def test_the_weight_comes_back_from_a_model_directory(reader: CaseReader, tmp_path: Path) -> None:
    with torch.no_grad():
        reader.model.decisions["which"].source_weight.fill_(1.25)

    save_model(tmp_path / "model", reader.model, metrics={}, card=tiny.CARD)

    loaded = load_checkpoint(tmp_path / "model").model
    assert loaded.state_dict()["decisions.which.source_weight"].item() == 1.25


def test_a_model_that_reads_no_sources_has_no_weight_for_them(reader: CaseReader) -> None:
    graph = reader.config.graph
    assert graph is not None
    config = reader.config.model_copy(update={"graph": graph.model_copy(update={"sources": False})})

    model = tiny.build_model(config, Labels(tasks=(WHICH,)))
    view = CaseReader(model, reader.text_encoder, reader.graph).read(Case(case_id="a", report=Report(text=TEXT)))

    assert not [name for name in model.state_dict() if "source_weight" in name]
    assert view.features.sources == {}
