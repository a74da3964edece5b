"""Time to an event: what is censored counts as far as it is known."""

import numpy as np
import pytest
import torch

from medmm.encoders.standard import Standardise
from medmm.heads import ValueHead
from medmm.survival import CoxHead, HazardHead, concordance, cox_loss, survival_loss, to_intervals


def test_probabilities_of_all_intervals_sum_to_one() -> None:
    torch.manual_seed(0)

    logits = HazardHead(4, 5)(torch.randn(3, 4))

    torch.testing.assert_close(logits.exp().sum(dim=1), torch.ones(3))


def test_a_certain_hazard_in_the_second_interval_ends_there() -> None:
    head = HazardHead(1, 3)
    with torch.no_grad():
        head.hazard.weight.zero_()
        head.hazard.bias.copy_(torch.tensor([-30.0, 30.0]))

    assert head(torch.zeros(1, 1)).exp()[0].tolist() == pytest.approx([0, 1, 0], abs=1e-6)


def test_a_censored_case_counts_as_then_or_later_and_an_unknown_one_not_at_all() -> None:
    logits = torch.tensor([[0.2, 0.3, 0.5]]).log().repeat(3, 1)

    loss = survival_loss(logits, torch.tensor([[1, 1], [1, 0], [-1, -1]]))

    assert float(loss) == pytest.approx(-(np.log(0.3) + np.log(0.8)) / 2)


def test_times_are_put_into_intervals_by_their_edges() -> None:
    target = to_intervals(np.array([0.5, 1.0, 9.0, np.nan]), np.array([1, 0, 1, 1]), np.array([1.0, 5.0]))

    assert target.tolist() == [[0, 1], [1, 0], [2, 1], [-1, -1]]


def test_the_partial_likelihood_is_that_of_a_hand_calculation() -> None:
    """Events at 1 and 3, one case censored at 2: (r1 / (r1+r2+r3)) x (r3 / r3)."""
    log_risk = torch.tensor([0.5, -0.2, 0.1])

    loss = cox_loss(log_risk, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([True, False, True]))

    expected = -(0.5 - np.log(np.exp(0.5) + np.exp(-0.2) + np.exp(0.1))) / 2
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_without_an_event_there_is_no_loss_but_a_gradient_of_zero() -> None:
    log_risk = torch.zeros(2, requires_grad=True)

    cox_loss(log_risk, torch.tensor([1.0, 2.0]), torch.tensor([False, False])).backward()

    assert log_risk.grad is not None
    assert not log_risk.grad.any()


def test_the_baseline_of_equal_risks_is_nelson_and_aalens() -> None:
    head = CoxHead(2, 3)
    time, event = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([True, True, False, True])

    head.fit_baseline(torch.zeros(4), time, event, torch.tensor([2.5, 5.0]))

    assert head.baseline.tolist() == pytest.approx([1 / 4 + 1 / 3, 1 / 4 + 1 / 3 + 1])
    chances = head.log_probabilities(torch.zeros(1)).exp()[0]
    assert float(chances[0]) == pytest.approx(1 - np.exp(-7 / 12), abs=1e-6)
    assert float(chances.sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("method", ["cox", "hazards"])
def test_survival_heads_learn_who_dies_first(method: str) -> None:
    torch.manual_seed(0)
    embedding = torch.randn(80, 4)
    time = torch.distributions.Exponential(torch.exp(1.5 * embedding[:, 0])).sample()
    event = torch.rand(80) < 0.7
    head = CoxHead(4, 5) if method == "cox" else HazardHead(4, 5)
    edges = torch.quantile(time, torch.tensor([0.2, 0.4, 0.6, 0.8]))
    target = torch.from_numpy(to_intervals(time.numpy(), event.numpy(), edges.numpy()))
    optimiser = torch.optim.Adam(head.parameters(), lr=0.05)

    def loss() -> torch.Tensor:
        output = head(embedding)
        return cox_loss(output, time, event) if method == "cox" else survival_loss(output, target)

    first = float(loss().detach())
    for _ in range(60):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()

    with torch.no_grad():
        output = head(embedding)
        risk = output if method == "cox" else -(output.exp() * torch.arange(5.0)).sum(dim=1)
    assert float(loss().detach()) < first
    assert concordance(risk.numpy(), time.numpy(), event.numpy()) > 0.75


def test_concordance_knows_order_chance_and_nothing() -> None:
    time, event = np.array([1.0, 2.0, 3.0]), np.array([1, 1, 0])

    assert concordance(np.array([3.0, 2.0, 1.0]), time, event) == 1
    assert concordance(np.zeros(3), time, event) == 0.5
    assert np.isnan(concordance(np.zeros(3), time, np.zeros(3)))


def test_one_value_has_no_deviation_to_learn_from() -> None:
    with pytest.raises(ValueError, match="at least two values"):
        ValueHead(3).fit(torch.tensor([1.0]))
    with pytest.raises(ValueError, match="at least two vectors"):
        Standardise(3).fit(torch.zeros(1, 3))


def test_a_value_head_learns_a_number_in_its_own_unit() -> None:
    torch.manual_seed(0)
    embedding = torch.randn(60, 3)
    values = 200 + 30 * embedding[:, 0]
    values[5] = float("nan")
    head = ValueHead(3)
    head.fit(values[~values.isnan()])
    optimiser = torch.optim.Adam(head.parameters(), lr=0.05)

    for _ in range(150):
        loss = head.loss(head(embedding), values)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    with torch.no_grad():
        error = (head.value(head(embedding)) - values)[~values.isnan()].abs().mean()
    assert float(error) < 5
