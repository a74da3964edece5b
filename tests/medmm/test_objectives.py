"""Objectives besides supervision: each learns on a problem small enough to see why."""

from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medmm.checkpoint import save_model
from medmm.config import Labels
from medmm.diagnose import Diagnoser, load_model
from medmm.encoders.text import TextEncoder
from medmm.errors import UsageError
from medmm.objectives.adversarial import embedding_noise, fgsm, pgd
from medmm.objectives.autoencoder import CrossModalAutoencoder, MultimodalAutoencoder, hide_patches
from medmm.objectives.contrastive import JointSpace, info_nce, joint_loss, margin_loss
from medmm.objectives.masked_language import IGNORED, MaskedLanguage, mask_pieces
from medmm.objectives.pseudo_labels import pseudo_labels, with_pseudo_labels
from medmm.objectives.synthesis import Optimisers, SequenceSynthesis, psnr, ssim


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- joint space


@pytest.mark.parametrize("margin", [None, 0.2])
def test_a_joint_space_learns_which_halves_belong_together(margin: float | None) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(32, 4)
    own = torch.stack([hidden @ torch.randn(4, 8), hidden @ torch.randn(4, 8), torch.zeros(32, 8)], dim=1)
    present = torch.tensor([[True, True, False]]).expand(32, -1)
    space = JointSpace(8, 3, 6)
    optimiser = torch.optim.Adam(space.parameters(), lr=0.02)
    losses = []

    for _ in range(80):
        loss = joint_loss(space(own), present, space, margin)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))

    joint = space(own).detach()
    found = (joint[:, 0] @ joint[:, 1].T).argmax(dim=1)
    assert losses[-1] < losses[0] / 2
    assert float((found == torch.arange(32)).float().mean()) > 0.8


def test_the_losses_are_those_of_a_hand_calculation() -> None:
    left, right = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])

    contrast = info_nce(left, right, torch.tensor(0.0))
    apart = margin_loss(left, right, 0.5)

    likeness = np.array([[1.0, 0.6], [0.0, 0.8]])
    rows = -np.log(np.exp(likeness.diagonal()) / np.exp(likeness).sum(axis=1)).mean()
    columns = -np.log(np.exp(likeness.diagonal()) / np.exp(likeness).sum(axis=0)).mean()
    assert float(contrast) == pytest.approx((rows + columns) / 2, abs=1e-6)
    # hinges: 0.5+0.6-1, 0.5+0.6-0.8 of the one pair; 0.5+0-0.8 and 0.5+0-1 of the other are below 0
    assert float(apart) == pytest.approx((0.1 + 0.3) / 4, abs=1e-6)


def test_cases_with_one_modality_teach_the_joint_space_nothing() -> None:
    space = JointSpace(4, 2, 3)
    own = torch.randn(3, 2, 4)

    loss = joint_loss(space(own), torch.tensor([[True, False], [False, True], [True, False]]), space)

    assert float(loss.detach()) == 0


# --- autoencoders


@pytest.mark.slow
def test_a_multimodal_autoencoder_tells_what_is_hidden_from_what_is_shown() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(64, 3)
    vectors = (hidden @ torch.randn(3, 6), hidden @ torch.randn(3, 5))
    present = torch.ones(64, 2, dtype=torch.bool)
    model = MultimodalAutoencoder((6, 5), 8)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)

    for _ in range(250):
        shown = torch.rand(64, 2) < 0.6
        loss = model.loss(vectors, present, shown)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    with torch.no_grad():
        only_first = torch.tensor([[True, False]]).expand(64, -1)
        told = model.decode(model.encode(vectors, only_first))[1]
    assert float((told - vectors[1]).square().mean()) < 0.3 * float(vectors[1].var())


@settings(max_examples=8, deadline=None)
@given(shown=st.lists(st.booleans(), min_size=2, max_size=2))
def test_what_an_absent_modality_contains_changes_no_latent(shown: list[bool]) -> None:
    torch.manual_seed(0)
    model, vectors, present = (
        MultimodalAutoencoder((4, 3), 5),
        (torch.randn(1, 4), torch.randn(1, 3)),
        torch.tensor([shown]),
    )
    garbage = tuple(torch.where(present[:, i : i + 1], one, float("nan")) for i, one in enumerate(vectors))

    torch.testing.assert_close(model.encode(garbage, present), model.encode(vectors, present), rtol=0, atol=0)


def shades(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures that are black or white all over, and the text vector that says which."""
    is_white = torch.randint(2, (n,), generator=generator(seed))
    return is_white[:, None, None, None].float().expand(n, 1, 16, 16).clone(), torch.nn.functional.one_hot(
        is_white, 2
    ).float()


@pytest.mark.slow
def test_text_helps_to_give_a_picture_back() -> None:
    torch.manual_seed(0)
    pictures, text = shades(32)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 4, stride=4), torch.nn.GELU())
    model = CrossModalAutoencoder(8, 2, n_dims=2, width=16)
    optimiser = torch.optim.Adam([*network.parameters(), *model.parameters()], lr=0.01)
    everyone = torch.ones(32, dtype=torch.bool)
    truth = model.truth(pictures, network(pictures))

    for _ in range(120):
        damaged = hide_patches(pictures, 0.75, generator(1))
        loss = (model(network(damaged), text, everyone) - truth).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    with torch.no_grad():
        gone = network(torch.zeros_like(pictures))
        with_text = (model(gone, text, everyone) - truth).abs().mean()
        without = (model(gone, text, ~everyone) - truth).abs().mean()
    assert float(with_text) < 0.7 * float(without)


@pytest.mark.parametrize("size", [(8, 12), (4, 8, 12)])
def test_each_cell_is_to_tell_its_own_part_of_the_image(size: tuple[int, ...]) -> None:
    model = CrossModalAutoencoder(3, 2, n_dims=len(size))
    image = torch.zeros(1, 1, *size)
    image[(0, 0, *(-1 for _ in size))] = 1  # the last voxel
    maps = torch.zeros(1, 3, *(edge // 4 for edge in size))

    truth = model.truth(image, maps)

    assert truth.shape == model(maps, torch.zeros(1, 2), torch.ones(1, dtype=torch.bool)).shape
    assert truth[0].argmax() == truth[0].numel() - 1
    assert float(truth.sum()) == 1


def test_the_stated_share_of_patches_is_hidden() -> None:
    shown = hide_patches(torch.ones(8, 2, 60, 60), 0.75, generator())

    assert float((shown == 0).float().mean()) == pytest.approx(0.75, abs=0.06)
    torch.testing.assert_close(shown[:, 0], shown[:, 1])


# --- synthesis


@pytest.mark.slow
def test_a_sequence_is_made_better_than_by_copying_the_one_that_is_there() -> None:
    torch.manual_seed(0)
    given = torch.rand(8, 1, 32, 32, generator=generator())
    truth = 1 - given  # an inverted contrast
    synthesis = SequenceSynthesis(1, widths=(8, 8, 8, 8, 8, 8))
    optimisers = Optimisers.of(synthesis, 3e-3)

    steps = [synthesis.step(given, truth, optimisers) for _ in range(40)]

    with torch.no_grad():
        made = synthesis.eval()(given)
    assert steps[-1].l1 < 0.5 * steps[0].l1
    assert float(psnr(made, truth).mean()) > float(psnr(given, truth).mean()) + 3
    assert float(ssim(made, truth).mean()) > float(ssim(given, truth).mean())


def test_a_discriminator_learns_from_both_and_only_the_generator_from_fooling_it() -> None:
    torch.manual_seed(0)
    synthesis = SequenceSynthesis(2, widths=(4, 4, 4, 4, 4, 4))
    before = {name: value.clone() for name, value in synthesis.named_parameters()}
    frozen = Optimisers(
        torch.optim.SGD(synthesis.generator.parameters(), lr=0.0),
        torch.optim.SGD(synthesis.discriminator.parameters(), lr=0.1),
    )

    synthesis.step(torch.randn(2, 2, 32, 32), torch.randn(2, 1, 32, 32), frozen)

    changed = {
        name.split(".")[0] for name, value in synthesis.named_parameters() if not torch.equal(value, before[name])
    }
    assert changed == {"discriminator"}


def test_quality_figures_are_those_of_their_definitions() -> None:
    truth = torch.linspace(0, 2, 256).reshape(1, 1, 16, 16)

    assert float(psnr(truth + 0.2, truth)) == pytest.approx(20.0, abs=1e-3)
    assert float(ssim(truth, truth)) == pytest.approx(1.0, abs=1e-5)


# --- masked language


def test_a_text_encoder_learns_to_guess_hidden_words(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(str(tiny.write_tiny_bert(tmp_path)), 64)
    encoder.network.requires_grad_(True)
    model, chance = MaskedLanguage(encoder), generator()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []

    for _ in range(60):
        loss = model.loss("ring enhancement on the left. no dural tail.", chance)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))

    known = [loss for loss in losses if loss > 0]
    assert np.mean(known[-15:]) < 0.6 * np.mean(known[:5])


def test_special_pieces_are_never_hidden_and_the_share_is_kept() -> None:
    ids = torch.randint(5, 90, (40, 50), generator=generator())
    special = torch.zeros_like(ids, dtype=torch.bool)
    special[:, 0] = True

    masked = mask_pieces(ids, special, 4, 90, generator(1))

    chosen = masked.target != IGNORED
    assert not chosen[:, 0].any()
    assert float(chosen.float().mean()) == pytest.approx(0.15, abs=0.02)
    assert float((masked.ids[chosen] == 4).float().mean()) == pytest.approx(0.8, abs=0.07)
    assert torch.equal(masked.ids[~chosen], ids[~chosen])
    assert torch.equal(masked.target[chosen], ids[chosen])


# --- pseudo-labels


def test_only_sure_cases_are_labelled_and_known_ones_never_overwritten() -> None:
    chances = np.array([[0.95, 0.05], [0.6, 0.4], [0.1, 0.9], [0.99, 0.01]])

    sure = pseudo_labels(chances, 0.9)
    capped = pseudo_labels(chances, 0.9, max_a_class=1)

    assert sure.tolist() == [0, -1, 1, 0]
    assert capped.tolist() == [-1, -1, 1, 0]
    assert with_pseudo_labels(np.array([1, 1, -1, -1]), sure).tolist() == [1, 1, 1, 0]


def test_unlabelled_cases_help_where_few_are_labelled() -> None:
    """One label each draws the border between two groups askew: self-training turns it."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=200)
    points = np.stack([rng.normal(0, 1, 200), rng.normal(4 * truth - 2, 0.7)], axis=1)
    few = [int(np.flatnonzero(truth == 0)[0]), int(np.flatnonzero(truth == 1)[0])]
    target = np.full(200, -1)
    target[few] = truth[few]
    first = LogisticRegression().fit(points[few], truth[few])
    start = first.score(points, truth)

    model = first
    for _ in range(5):
        labels = with_pseudo_labels(target, pseudo_labels(model.predict_proba(points), 0.8, max_a_class=60))
        known = labels >= 0
        model = LogisticRegression().fit(points[known], labels[known])

    assert model.score(points, truth) > start


# --- adversarial


def test_attacks_raise_the_loss_within_their_bound_and_many_steps_raise_it_more() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
    values, target = torch.randn(20, 6), torch.randint(2, (20,), generator=generator())

    def loss(changed: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(network(changed), target)

    one, many = fgsm(values, loss, 0.5), pgd(values, loss, 0.5, n_steps=10)

    assert float((one - values).abs().max()) <= 0.5 + 1e-6
    assert float((many - values).abs().max()) <= 0.5 + 1e-6
    assert float(loss(values).detach()) < float(loss(one).detach()) <= float(loss(many).detach()) + 1e-4
    assert all(value.grad is None for value in network.parameters())


def test_noise_on_words_is_a_share_of_their_length() -> None:
    states = torch.randn(2, 5, 4)

    changed = embedding_noise(states, lambda value: value.square().sum(), 0.1)

    moved = (changed - states).norm(dim=-1) / states.norm(dim=-1)
    torch.testing.assert_close(moved, torch.full((2, 5), 0.1))


def test_training_against_attacks_makes_a_model_harder_to_push() -> None:
    torch.manual_seed(0)
    values = torch.randn(128, 8)
    values[:, 0] = values[:, 0].sign() * 1.5
    target = (values[:, 0] > 0).long()

    def trained(epsilon: float) -> float:
        torch.manual_seed(1)
        network = torch.nn.Linear(8, 2)
        optimiser = torch.optim.Adam(network.parameters(), lr=0.05)
        for _ in range(60):
            seen = (
                fgsm(values, lambda x: torch.nn.functional.cross_entropy(network(x), target), epsilon)
                if epsilon
                else values
            )
            loss = torch.nn.functional.cross_entropy(network(seen), target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        attacked = pgd(values, lambda x: torch.nn.functional.cross_entropy(network(x), target), 1.0)
        return float((network(attacked).argmax(dim=1) == target).float().mean())

    assert trained(1.0) > trained(0.0)


# --- ensembles


def test_an_ensemble_in_one_directory_averages_its_members(tmp_path: Path) -> None:
    labels = Labels(tasks=(tiny.KIND, tiny.GRADE))
    models = [tiny.build_model(tiny.build_config(has_volume=False), labels, seed=seed) for seed in range(3)]
    save_model(tmp_path, models[0], metrics={}, card=tiny.CARD)
    for number, model in enumerate(models[1:], 1):
        save_model(tmp_path / "members" / str(number), model, metrics={}, card=tiny.CARD)
    case = tiny.build_case(1)
    alone = [tiny.build_diagnoser(model).diagnose(case).tasks["kind"].probabilities for model in models]

    ensemble = load_model(str(tmp_path), device="cpu")

    np.testing.assert_allclose(ensemble.diagnose(case).tasks["kind"].probabilities, np.mean(alone, axis=0), atol=1e-6)
    assert len({tuple(row.round(4)) for row in alone}) == 3


def test_members_that_answer_other_questions_are_refused() -> None:
    one = tiny.build_diagnoser(tiny.build_model(tiny.build_config(has_volume=False), Labels(tasks=(tiny.KIND,))))
    other = tiny.build_diagnoser(tiny.build_model(tiny.build_config(has_volume=False), Labels(tasks=(tiny.GRADE,))))

    with pytest.raises(UsageError, match="the same questions"):
        Diagnoser(one.loaded, text_encoder=None, graph=None, device=one.device, members=[other])
