"""The laws of fusion, for each kind: masks are obeyed, whatever stands behind them."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medmm.decision import TaskDecision
from medmm.encoders.tokens import Tokens
from medmm.errors import UsageError
from medmm.fusion.base import Fused
from medmm.fusion.kinds import FUSIONS, fusion_kind
from medmm.heads import build_head

WIDTH, N_MODALITIES, N_TOKENS, N_CLASSES = 8, 4, 3, 3
PRESENCE = st.lists(st.booleans(), min_size=N_MODALITIES, max_size=N_MODALITIES)
SOMETHING = PRESENCE.filter(any)
ALL_KINDS = pytest.mark.parametrize("name", list(FUSIONS))
# These say how much each modality counts; the others join without weighing.
WEIGHING = ("early", "weighted", "attention", "hybrid")


class FusedDecision(nn.Module):
    """A fusion with the decision on one task, as in the model."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        kind = fusion_kind(name)
        self.fusion = kind.build(WIDTH, N_MODALITIES)
        self.decision = TaskDecision("exclusive", WIDTH, N_CLASSES, N_MODALITIES, kind.level)
        nn.init.normal_(self.fusion.nothing)

    def forward(self, tokens: list[Tokens], present: Tensor, walk: Tensor | None = None) -> tuple[Fused, Tensor]:
        fused = self.fusion(tokens, present)
        return fused, self.decision(fused, present, walk)[0]


def build(name: str) -> FusedDecision:
    return FusedDecision(name).eval()


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


@ALL_KINDS
@pytest.mark.parametrize("garbage", [1e6, float("nan")])
@settings(max_examples=4, deadline=None)
@given(mask=PRESENCE)
def test_what_an_absent_modality_contains_changes_nothing_for_all_masks(
    name: str, garbage: float, mask: list[bool]
) -> None:
    module, present, parts = build(name), torch.tensor([mask]), tokens()

    fused, logits = module(with_garbage(parts, present, garbage), present)

    expected, expected_logits = module(parts, present)
    torch.testing.assert_close(fused.case, expected.case, rtol=0, atol=0)
    torch.testing.assert_close(logits, expected_logits, rtol=0, atol=0)


@pytest.mark.parametrize("name", WEIGHING)
@settings(max_examples=4, deadline=None)
@given(mask=SOMETHING)
def test_weights_sum_to_one_and_are_zero_where_absent_for_all_masks(name: str, mask: list[bool]) -> None:
    present = torch.tensor([mask])

    weights = build(name).fusion(tokens(), present).weights

    assert weights is not None
    assert (weights[~present] == 0).all()
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0))


@ALL_KINDS
def test_only_kinds_that_weigh_modalities_claim_weights(name: str) -> None:
    fused = build(name).fusion(tokens(), torch.ones(1, N_MODALITIES, dtype=torch.bool))

    assert (fused.weights is not None) == (name in WEIGHING)


@ALL_KINDS
@settings(max_examples=4, deadline=None)
@given(mask=PRESENCE)
def test_shares_of_the_decision_sum_to_one_and_none_is_of_an_absent_modality(name: str, mask: list[bool]) -> None:
    module, present = build(name), torch.tensor([mask])
    if isinstance(module.decision.mix, nn.Parameter):
        nn.init.normal_(module.decision.mix)

    weights = module.decision.weights(present)

    torch.testing.assert_close(weights.sum(), torch.tensor(1.0))
    assert (weights[:, 1:][~present] == 0).all()


@ALL_KINDS
@settings(max_examples=4, deadline=None)
@given(masks=st.lists(PRESENCE, min_size=2, max_size=4))
def test_a_batch_gives_what_its_cases_give_alone_for_all_masks(name: str, masks: list[list[bool]]) -> None:
    module, present, parts = build(name), torch.tensor(masks), tokens(len(masks))

    _, together = module(parts, present)

    for row in range(len(masks)):
        one = [Tokens(part.values[row : row + 1], part.mask[row : row + 1]) for part in parts]
        _, alone = module(one, present[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)


@ALL_KINDS
def test_with_nothing_present_the_case_is_the_learned_prior(name: str) -> None:
    module = build(name)

    fused, logits = module(tokens(), torch.zeros(1, N_MODALITIES, dtype=torch.bool))

    torch.testing.assert_close(fused.case[0], module.fusion.nothing)
    assert fused.weights is None or not fused.weights.any()
    assert logits.isfinite().all()


@ALL_KINDS
@settings(max_examples=4, deadline=None)
@given(mask=SOMETHING)
def test_gradients_reach_the_present_modalities_and_no_other_for_all_masks(name: str, mask: list[bool]) -> None:
    present, parts = torch.tensor([mask]), tokens()
    leaves = [part.values.clone().requires_grad_() for part in parts]

    _, logits = build(name)([Tokens(leaf, part.mask) for leaf, part in zip(leaves, parts, strict=True)], present)
    (logits * torch.arange(1.0, N_CLASSES + 1)).sum().backward()

    reached = [leaf.grad is not None and bool(leaf.grad.abs().sum() > 0) for leaf in leaves]
    assert reached == mask


@ALL_KINDS
def test_gradients_are_finite_when_an_absent_modality_is_not(name: str) -> None:
    module, present = build(name), torch.tensor([[True, False, True, False], [False] * 4])

    module(with_garbage(tokens(2), present, float("nan")), present)[1].sum().backward()

    assert all(value.grad is None or value.grad.isfinite().all() for value in module.parameters())


@ALL_KINDS
def test_tokens_behind_the_mask_change_nothing(name: str) -> None:
    module, present, parts = build(name), torch.ones(1, N_MODALITIES, dtype=torch.bool), tokens()
    changed = [Tokens(torch.where(part.mask[..., None], part.values, 1e6), part.mask) for part in parts]

    torch.testing.assert_close(module(changed, present)[1], module(parts, present)[1], rtol=0, atol=0)


@ALL_KINDS
@settings(max_examples=4, deadline=None)
@given(mask=SOMETHING, order=st.permutations(range(N_MODALITIES)))
def test_the_order_of_modalities_is_a_name_only(name: str, mask: list[bool], order: list[int]) -> None:
    """Modalities in another order, each with its own parameters, give the same case."""
    module, present, parts = build(name).fusion, torch.tensor([mask]), tokens()
    other = copy.deepcopy(module)
    with torch.no_grad():
        for value in other.parameters():
            if value.shape[0] == N_MODALITIES:
                value.copy_(value[order].clone())

    moved = other([parts[index] for index in order], present[:, order])

    fused = module(parts, present)
    torch.testing.assert_close(moved.case, fused.case, rtol=1e-4, atol=1e-5)
    if fused.weights is not None and moved.weights is not None:
        torch.testing.assert_close(moved.weights, fused.weights[:, order], rtol=1e-4, atol=1e-5)


@ALL_KINDS
@settings(max_examples=4, deadline=None)
@given(mask=SOMETHING)
def test_an_absent_modality_has_no_share_in_the_decision_for_all_masks(name: str, mask: list[bool]) -> None:
    module, present = build(name), torch.tensor([mask])
    walk = torch.randn(1, N_CLASSES, generator=torch.Generator().manual_seed(2))
    _, before = module(tokens(), present, walk)

    for index, is_present in enumerate(mask):
        if not is_present:
            module.decision.own[index] = build_head("exclusive", WIDTH, N_CLASSES)
    _, after = module(tokens(), present, walk if mask[3] else walk + torch.arange(3.0))

    torch.testing.assert_close(after, before, rtol=0, atol=0)


@ALL_KINDS
def test_the_walk_over_the_graph_speaks_for_a_class_when_the_graph_is_present(name: str) -> None:
    module, present = build(name), torch.ones(1, N_MODALITIES, dtype=torch.bool)

    _, without = module(tokens(), present, torch.zeros(1, N_CLASSES))
    _, with_walk = module(tokens(), present, torch.tensor([[0.0, 1.0, 0.0]]))

    assert (with_walk - without)[0, 1] > 0
    torch.testing.assert_close(with_walk[0, [0, 2]], without[0, [0, 2]])


@pytest.mark.slow
@ALL_KINDS
def test_a_kind_learns_what_two_modalities_say_together(name: str) -> None:
    """The answer needs the first modality and the second, and the loss falls."""
    torch.manual_seed(0)
    module = FusedDecision(name)
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(N_MODALITIES, 32, 1, WIDTH, generator=generator)
    target = ((values[0, :, 0, 0] + values[1, :, 0, 0]) > 0).long()
    parts = [Tokens(item, torch.ones(32, 1, dtype=torch.bool)) for item in values]
    present = torch.ones(32, N_MODALITIES, dtype=torch.bool)
    optimiser = torch.optim.Adam(module.parameters(), lr=2e-2)

    losses = []
    for _ in range(40):
        loss = nn.functional.cross_entropy(module(parts, present)[1], target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))

    assert losses[-1] < 0.6 * losses[0]


def test_late_mean_is_the_mean_of_the_present_decisions() -> None:
    module, present, parts = build("late_mean"), torch.tensor([[True, False, True, False]]), tokens()

    fused, logits = module(parts, present)

    own = [module.decision.own[index](fused.own[:, index]) for index in (0, 2)]
    torch.testing.assert_close(logits, (own[0] + own[1]) / 2)


def test_product_and_tensor_ignore_absent_factors_and_multiply_present_ones() -> None:
    module, parts = build("product").fusion, tokens()
    present = torch.tensor([[True, True, False, False]])

    fused = module(parts, present)

    factors = torch.einsum("bmf,mfg->bmg", fused.own, module.factor) + module.offset
    torch.testing.assert_close(fused.case, module.leave(factors[:, 0] * factors[:, 1]))


def test_tensor_fusion_is_the_outer_product_contracted_by_its_low_rank_weight() -> None:
    """Rank 1, two modalities: the factors' outer product is the full weight tensor (Liu et al., equation 4)."""
    from medmm.fusion.pooled import TensorFusion

    torch.manual_seed(0)
    module = TensorFusion(4, 2, rank=2, dropout=0).eval()
    own, present = torch.randn(1, 2, 4), torch.ones(1, 2, dtype=torch.bool)

    joined = module.join(own, [], present).case

    with_one = torch.cat([own, torch.ones(1, 2, 1)], dim=2)[0]
    weight = torch.cat([module.factors, module.offsets[:, :, None]], dim=2)  # (M, R, F + 1, G)
    full = torch.einsum("rag,rbg,r->abg", weight[0], weight[1], module.rank_weight)
    outer = torch.outer(with_one[0], with_one[1])
    torch.testing.assert_close(joined[0], torch.einsum("ab,abg->g", outer, full) + module.bias)


def test_an_unknown_fusion_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"hybrid.*got 'magic'"):
        fusion_kind("magic")
