"""The laws of hybrid fusion: masks are obeyed, whatever stands behind them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medmm.encoders.tokens import Tokens
from medmm.fusion.hybrid import HybridFusion
from medmm.heads import build_head
from medmm.model import TaskDecision

WIDTH, N_MODALITIES, N_TOKENS = 8, 4, 3
PRESENCE = st.lists(st.booleans(), min_size=N_MODALITIES, max_size=N_MODALITIES)
SOMETHING = PRESENCE.filter(any)


def fusion(seed: int = 0) -> HybridFusion:
    torch.manual_seed(seed)
    return HybridFusion(WIDTH, N_MODALITIES).eval()


def tokens(batch: int = 1, seed: int = 1) -> list[Tokens]:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(N_MODALITIES, batch, N_TOKENS, WIDTH, generator=generator)
    mask = torch.rand(N_MODALITIES, batch, N_TOKENS, generator=generator) < 0.7
    mask[..., 0] = True
    return [Tokens(*pair) for pair in zip(values, mask, strict=True)]


def with_garbage(parts: list[Tokens], present: Tensor, garbage: float) -> list[Tokens]:
    return [
        Tokens(torch.where(present[:, index, None, None], part.values, garbage), part.mask)
        for index, part in enumerate(parts)
    ]


@pytest.mark.parametrize("garbage", [0.0, 1e6, float("nan"), float("inf")])
@settings(max_examples=16, deadline=None)
@given(mask=PRESENCE)
def test_what_an_absent_modality_contains_changes_nothing_for_all_masks(garbage: float, mask: list[bool]) -> None:
    module, present, parts = fusion(), torch.tensor([mask]), tokens()

    fused = module(with_garbage(parts, present, garbage), present)

    torch.testing.assert_close(fused.case, module(parts, present).case, rtol=0, atol=0)


@settings(max_examples=16, deadline=None)
@given(mask=SOMETHING)
def test_gates_sum_to_one_and_are_zero_where_absent_for_all_masks(mask: list[bool]) -> None:
    present = torch.tensor([mask])

    gate = fusion()(tokens(), present).gate

    assert (gate[~present] == 0).all()
    torch.testing.assert_close(gate.sum(), torch.tensor(1.0))


@settings(max_examples=16, deadline=None)
@given(masks=st.lists(PRESENCE, min_size=2, max_size=4))
def test_a_batch_gives_what_its_cases_give_alone_for_all_masks(masks: list[list[bool]]) -> None:
    module, present, parts = fusion(), torch.tensor(masks), tokens(len(masks))

    together = module(parts, present).case

    for row in range(len(masks)):
        one = [Tokens(part.values[row : row + 1], part.mask[row : row + 1]) for part in parts]
        alone = module(one, present[row : row + 1]).case
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-6)


def test_with_nothing_present_the_case_is_the_learned_prior() -> None:
    module = fusion()
    torch.nn.init.normal_(module.nothing)

    fused = module(tokens(), torch.zeros(1, N_MODALITIES, dtype=torch.bool))

    torch.testing.assert_close(fused.case[0], module.nothing)
    assert not fused.gate.any()


@settings(max_examples=16, deadline=None)
@given(mask=SOMETHING)
def test_gradients_reach_the_present_modalities_and_no_other_for_all_masks(mask: list[bool]) -> None:
    present, parts = torch.tensor([mask]), tokens()
    leaves = [part.values.clone().requires_grad_() for part in parts]

    case = fusion()([Tokens(leaf, part.mask) for leaf, part in zip(leaves, parts, strict=True)], present).case
    (case * torch.arange(1.0, WIDTH + 1)).sum().backward()

    reached = [leaf.grad is not None and bool(leaf.grad.abs().sum() > 0) for leaf in leaves]
    assert reached == mask


def test_gradients_are_finite_when_an_absent_modality_is_not() -> None:
    module, present = fusion(), torch.tensor([[True, False, True, False]])

    module(with_garbage(tokens(), present, float("nan")), present).case.sum().backward()

    assert all(value.grad is None or value.grad.isfinite().all() for value in module.parameters())


def test_word_pieces_behind_the_mask_change_nothing() -> None:
    module, present, parts = fusion(), torch.ones(1, N_MODALITIES, dtype=torch.bool), tokens()
    changed = [Tokens(torch.where(part.mask[..., None], part.values, 1e6), part.mask) for part in parts]

    torch.testing.assert_close(module(changed, present).case, module(parts, present).case, rtol=0, atol=0)


@settings(max_examples=16, deadline=None)
@given(mask=SOMETHING)
def test_an_absent_modality_has_no_share_in_the_decision_for_all_masks(mask: list[bool]) -> None:
    torch.manual_seed(0)
    module, present = fusion(), torch.tensor([mask])
    decision = TaskDecision("exclusive", WIDTH, 3).eval()
    walk = torch.randn(1, 3)
    before, _ = decision(module(tokens(), present), present, walk)

    for index, is_present in enumerate(mask):
        if not is_present:
            decision.own[index] = build_head("exclusive", WIDTH, 3)
    after, _ = decision(module(tokens(), present), present, walk if mask[3] else walk + 5)

    torch.testing.assert_close(after, before, rtol=0, atol=0)
