"""Candidates by their names: what the text is near to, and that an absent text says nothing."""

import pytest
import tiny_models as tiny
import torch

from medmm.config import ClassSpec, Labels, TaskSpec
from medmm.decision import TEXT, TaskDecision
from medmm.encoders.text_match import TextMatch
from medmm.encoders.tokens import Tokens
from medmm.fusion.base import Fused
from medmm.inputs import CaseFeatures, CaseReader, collate

NAMES = torch.eye(4)
USUAL = torch.full((4,), 0.25)


@pytest.fixture
def match() -> TextMatch:
    fitted = TextMatch(4, 4)
    fitted.fit(NAMES, USUAL.repeat(3, 1))
    return fitted


def text(*rows: torch.Tensor, n_real: int | None = None) -> Tokens:
    """One case's sentences, the last ones padding."""
    mask = torch.arange(len(rows)) < (len(rows) if n_real is None else n_real)
    return Tokens(torch.stack(rows)[None], mask[None])


def test_the_candidate_that_a_sentence_names_comes_first(match: TextMatch) -> None:
    scores = match(text(NAMES[2] + USUAL, USUAL + 0.01 * NAMES[0]), match.names)[0]

    assert int(scores.argmax()) == 2


def test_what_all_sentences_share_says_nothing(match: TextMatch) -> None:
    scores = match(text(USUAL), match.names)[0]

    torch.testing.assert_close(scores, torch.zeros(4))


def test_padding_is_not_read(match: TextMatch) -> None:
    plain = match(text(NAMES[1]), match.names)
    padded = match(text(NAMES[1], torch.full((4,), float("nan")), n_real=1), match.names)

    torch.testing.assert_close(plain, padded)


def test_a_case_without_sentences_prefers_no_candidate(match: TextMatch) -> None:
    scores = match(text(NAMES[1], n_real=0), match.names)

    assert (scores == 0).all()


@pytest.mark.parametrize("level", ["joint", "mean", "learned", "both"])
def test_an_absent_text_changes_no_ranking(level: str) -> None:
    torch.manual_seed(0)
    decision = TaskDecision("ranking", 8, 4, level=level, text_width=4)  # type: ignore[arg-type]  # one of its levels
    assert decision.match is not None
    decision.match.fit(NAMES, USUAL[None])
    fused = Fused(case=torch.randn(1, 8), own=torch.randn(1, 4, 8))
    present = torch.tensor([[False, True, True, False]])
    absent = present.clone()
    absent[:, TEXT] = False

    def ranked(has: torch.Tensor, sentence: torch.Tensor) -> torch.Tensor:
        return decision(fused, has, None, text(sentence))[0]

    assert not torch.allclose(ranked(present, NAMES[0]), ranked(present, NAMES[1]))
    torch.testing.assert_close(ranked(absent, NAMES[0]), ranked(absent, torch.full((4,), float("nan"))))


def test_a_model_ranks_by_the_names_of_its_classes() -> None:
    names = ("a", "b", "c")
    ranking = TaskSpec(
        name="which", title="Which", kind="ranking", classes=tuple(ClassSpec(name=name, title=name) for name in names)
    )
    model = tiny.build_model(tiny.build_config(text="unused", has_volume=False), Labels(tasks=(ranking,)))
    match = model.decisions["which"].match  # type: ignore[union-attr]  # a ranking task of a model with text
    vectors = torch.eye(3, tiny.TEXT_WIDTH)
    match.fit(vectors, torch.zeros(1, tiny.TEXT_WIDTH))
    reader = CaseReader(model, None, None)

    with torch.no_grad():
        logits = model(collate([CaseFeatures(text=vectors[number : number + 1]) for number in range(3)], reader)).logits

    assert logits["which"].argmax(dim=1).tolist() == [0, 1, 2]
