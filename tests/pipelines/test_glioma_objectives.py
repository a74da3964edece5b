"""What objectives and made sequences are worth on the gliomas: the tables say what the answers say."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medmm.encoders.slice_unet import BasicSliceUNet
from medmm.objectives.synthesis import psnr
from pipelines.recipes.glioma_mri import synthesis
from pipelines.recipes.glioma_mri.data import ROLES
from pipelines.recipes.glioma_mri.objectives import (
    CONTROLS,
    ENSEMBLE,
    HALF,
    HALF_PSEUDO,
    LABELS_ALONE,
    TRAINED_WITH,
    ObjectiveAnswers,
    hide_half,
    tables,
    to_markdown,
    write_answers,
)
from pipelines.recipes.glioma_mri.synthesis import (
    GAN,
    MIXTURE,
    NONE,
    TRUE,
    Slices,
    SynthesisSettings,
    _figures,
    _rivals,
    imputed_dice,
    slices_of,
    train_synthesis,
)
from pipelines.training.where import WhereExample

TINY = SynthesisSettings(steps=3, batch_size=2, widths=(4, 4, 4, 4, 4, 4))


def answers(signals: dict[str, float]) -> ObjectiveAnswers:
    """Two-class answers that know the truth as well as `signals` says of the variant."""
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=60)
    chances = {}
    for name in (*TRAINED_WITH, ENSEMBLE, HALF, HALF_PSEUDO):
        high = 1 / (1 + np.exp(-(signals.get(name, 0.0) * (2 * truth - 1) + rng.standard_normal(60))))
        chances[name] = {"grade": np.stack([1 - high, high], axis=1)}
    unknown = truth.copy()
    unknown[:5] = -1
    return ObjectiveAnswers(truth={"grade": unknown}, chances=chances)


def slices(seed: int) -> Slices:
    """The truth is a mixture of both given sequences, and an offset."""
    given = torch.randn(4, 2, 32, 32, generator=torch.Generator().manual_seed(seed))
    return Slices(given, 0.5 * given[:, :1] - 2 * given[:, 1:] + 0.25)


def test_every_objective_is_held_against_the_same_training_without_it() -> None:
    grade = tables(answers({ENSEMBLE: 3.0, HALF: 3.0}), 100)["grade"]

    gains = grade["gain"]
    assert {name: gain["over"] for name, gain in gains.items()} == CONTROLS  # type: ignore[attr-defined]  # a table
    assert gains[ENSEMBLE]["low"] > 0 > gains[HALF_PSEUDO]["high"]  # type: ignore[index]  # a table
    assert grade["auroc"][LABELS_ALONE]["n"] == 55  # type: ignore[index]  # a table


def test_the_table_for_people_has_a_line_a_variant(tmp_path: Path) -> None:
    result = answers({ENSEMBLE: 3.0})

    text = write_answers(result, tmp_path)

    assert text.count("| grade |") == len(result.chances)
    found = json.loads((tmp_path / "objectives.json").read_text())
    assert to_markdown(found) == text
    again = np.load(tmp_path / "objectives.npz")
    np.testing.assert_array_equal(again[f"{ENSEMBLE}/grade"], result.chances[ENSEMBLE]["grade"])


def test_half_of_the_patients_lose_all_their_labels() -> None:
    known = {"grade": np.zeros(10, dtype=int), "histology": np.ones(10, dtype=int)}

    half = hide_half(known, seed=0)

    assert (half["grade"] == -1).sum() == 5
    assert ((half["grade"] == -1) == (half["histology"] == -1)).all()
    assert (known["grade"] == 0).all()


def test_the_linear_rival_finds_the_mixture() -> None:
    rivals = _rivals([slices(0), slices(1)], "t1ce")
    unseen = slices(2)

    torch.testing.assert_close(rivals["linear mixture"](unseen.given), unseen.truth, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rivals["copy of flair"](unseen.given), unseen.given[:, 1:])


def test_synthesis_is_the_same_for_the_same_seed() -> None:
    first, again = (train_synthesis([slices(0)], TINY).state_dict() for _ in range(2))

    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_gains_are_those_of_the_network_over_each_rival() -> None:
    figures = _figures({GAN: np.array([3.0, 4.0, 5.0]), "copy": np.array([1.0, 2.0, 3.0])})

    assert figures["copy"]["gain"]["value"] == pytest.approx(2.0)  # type: ignore[index]  # a table
    assert figures["copy"]["gain"]["low"] == pytest.approx(2.0)  # type: ignore[index]  # a table
    assert "gain" not in figures[GAN]


def test_slices_that_a_sequence_does_not_show_are_not_compared() -> None:
    example = head(n_slices=4)
    example.array[ROLES.index("t1ce"), 3] = 0  # blank there: no truth to be like

    found = slices_of(example, "t1ce")

    assert found.truth.shape == (3, 1, 32, 32)
    assert torch.isfinite(psnr(found.given[:, :1], found.truth)).all()


def test_a_sequence_made_without_fault_draws_the_mask_of_the_true_one(monkeypatch: pytest.MonkeyPatch) -> None:
    flair = ROLES.index("flair")

    def bright(_: object, seen: WhereExample) -> np.ndarray:
        """A trunk that marks what is bright in FLAIR where there is FLAIR."""
        return (seen.array[flair] > 2)[None] * float(seen.present[flair])

    monkeypatch.setattr(synthesis, "region_probabilities", bright)
    example = head(n_slices=4)
    truth = slices_of(example, "flair").truth
    makers = {GAN: lambda given: truth, MIXTURE: lambda given: torch.zeros_like(truth)}

    found = imputed_dice(BasicSliceUNet(3, 1, (4, 4, 4, 4, 4, 4)), example, "flair", makers)

    assert found == {GAN: 1.0, MIXTURE: 0.0, NONE: 0.0, TRUE: 1.0}
    np.testing.assert_array_equal(example.array, head(n_slices=4).array)  # what was read stays as it was


def head(n_slices: int) -> WhereExample:
    rng = np.random.default_rng(0)
    array = rng.uniform(0.5, 1.0, (len(ROLES), n_slices, 32, 32)).astype(np.float16)
    regions = np.zeros((1, n_slices, 32, 32), np.uint8)
    regions[:, 1:3, 8:16, 8:16] = 1
    array[ROLES.index("flair")][regions[0] > 0] = 3
    return WhereExample(case="a", array=array, present=np.ones(len(ROLES), bool), regions=regions)
