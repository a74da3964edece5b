"""Heads and losses: probabilities are probabilities, order is order, unknown labels teach nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medmm.heads import ConceptAnchor, ExclusiveHead, OrdinalHead, build_head, probabilities, task_loss
from medmm.location import LocationHead

SCORES = st.floats(-60, 60)


def ordinal(score: float, steps: list[float]) -> torch.Tensor:
    """Logits of an ordinal head whose score is `score`."""
    head = OrdinalHead(1, len(steps) + 2)
    with torch.no_grad():
        head.score.weight.fill_(1)
        head.score.bias.fill_(0)
        head.steps.copy_(torch.tensor(steps))
        return head(torch.tensor([[score]]))


@settings(max_examples=60, deadline=None)
@given(score=SCORES, steps=st.lists(st.floats(-5, 5), max_size=4))
def test_ordinal_probabilities_sum_to_one_for_all_scores_and_steps(score: float, steps: list[float]) -> None:
    chances = probabilities(ordinal(score, steps), "ordinal")

    assert (chances >= 0).all()
    torch.testing.assert_close(chances.sum(), torch.tensor(1.0))


@settings(max_examples=60, deadline=None)
@given(low=SCORES, high=SCORES, steps=st.lists(st.floats(-5, 5), min_size=1, max_size=4))
def test_a_higher_score_never_means_a_lower_class_for_all_pairs(low: float, high: float, steps: list[float]) -> None:
    low, high = sorted((low, high))
    rank = torch.arange(len(steps) + 2.0)

    means = [(probabilities(ordinal(score, steps), "ordinal") * rank).sum() for score in (low, high)]

    assert means[1] >= means[0] - 1e-4


@settings(max_examples=30, deadline=None)
@given(score=st.floats(-4, 4), steps=st.lists(st.floats(-3, 3), min_size=1, max_size=3))
def test_ordinal_thresholds_are_ordered_for_all_steps(score: float, steps: list[float]) -> None:
    chances = probabilities(ordinal(score, steps), "ordinal")[0]

    above = 1 - chances.cumsum(0)[:-1]  # P(class > l), l = 0..L-2
    thresholds = score - torch.logit(above.clamp(1e-6, 1 - 1e-6))
    assert (thresholds.diff() > 0).all()


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_an_untrained_ordinal_head_prefers_no_end(n_classes: int) -> None:
    chances = probabilities(ordinal(0.0, [0.0] * (n_classes - 2)), "ordinal")[0]

    assert abs(float(chances[0] - chances[-1])) < 0.25


def test_an_ordinal_head_learns_from_a_confident_mistake() -> None:
    head = OrdinalHead(1, 3)
    torch.nn.init.constant_(head.score.bias, 30.0)

    task_loss(head(torch.zeros(1, 1)), torch.tensor([0]), "ordinal", torch.ones(3)).backward()

    assert head.score.bias.grad is not None
    assert float(head.score.bias.grad) > 0.1


@pytest.mark.parametrize("kind", ["exclusive", "ordinal"])
def test_cases_with_an_unknown_label_change_no_loss(kind: str) -> None:
    torch.manual_seed(0)
    logits, weights = torch.randn(3, 4), torch.ones(4)

    loss = task_loss(logits, torch.tensor([2, -1, 0]), kind, weights)  # type: ignore[arg-type]  # parametrised

    torch.testing.assert_close(loss, task_loss(logits[[0, 2]], torch.tensor([2, 0]), kind, weights))  # type: ignore[arg-type]


def test_a_batch_without_any_known_label_has_zero_loss_and_gradient() -> None:
    logits = torch.randn(2, 3, requires_grad=True)

    loss = task_loss(logits, torch.tensor([-1, -1]), "exclusive", torch.ones(3))
    loss.backward()

    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_unknown_entries_of_a_multilabel_row_are_ignored() -> None:
    logits, weights = torch.tensor([[1.0, -2.0, 3.0]]), torch.ones(3)

    loss = task_loss(logits, torch.tensor([[1, -1, 0]]), "multilabel", weights)

    expected = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(loss, expected)


def test_multilabel_probabilities_are_independent() -> None:
    chances = probabilities(torch.tensor([[0.0, 10.0, 10.0]]), "multilabel")

    torch.testing.assert_close(chances, torch.tensor([[0.0, 10.0, 10.0]]).sigmoid())


def test_exclusive_probabilities_sum_to_one() -> None:
    torch.manual_seed(0)

    chances = probabilities(ExclusiveHead(4, 3)(torch.randn(5, 4)), "exclusive")

    torch.testing.assert_close(chances.sum(dim=1), torch.ones(5))


def test_a_kind_without_a_head_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"exclusive, ordinal, multilabel, survival, ranking, regression \(got 'number'\)"
    ):
        build_head("number", 4, 2)  # type: ignore[arg-type]  # no kind


def test_the_anchor_scores_a_class_that_training_never_saw() -> None:
    torch.manual_seed(0)
    anchor, case, concepts = ConceptAnchor(4, 6), torch.randn(1, 4), torch.randn(3, 6)

    logits = anchor(case, concepts)

    torch.testing.assert_close(anchor(case, concepts[2:]), logits[:, 2:])


@settings(max_examples=30, deadline=None)
@given(place=st.lists(st.floats(-1, 1, width=32), min_size=7, max_size=7))
def test_a_folded_place_is_answered_alike_on_both_sides_for_all_places(place: list[float]) -> None:
    torch.manual_seed(0)
    head, position = LocationHead(4, "folded"), torch.tensor([place])
    mirrored = position * torch.tensor([-1.0, 1, 1, 1, 1, 1, 1])

    torch.testing.assert_close(head(mirrored), head(position), rtol=0, atol=0)


def test_a_signed_place_tells_the_sides_apart() -> None:
    torch.manual_seed(0)
    head, right = LocationHead(2, "signed"), torch.tensor([[0.5, 0, 0, 0, 0, 0, 0]])

    assert not torch.equal(head(right), head(-right))
