"""Cases that share passes of the large networks: the same answers, within the memory of a pass."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import tiny_models as tiny
import torch
from torch import Tensor

from medmm.checkpoint import LoadedModel
from medmm.config import ImagesSpec
from medmm.diagnose import Diagnoser
from medmm.errors import InputError
from medmm.passes import in_passes, rows_that_fit
from medmm.preprocess_images import ImagePreprocessing
from medmm.types import Case

DEPTHS = (6, 9, 4)


def cases(depths: Sequence[int] = DEPTHS) -> list[Case]:
    return [
        replace(tiny.build_case(seed), volumes=tiny.build_phantom(seed, (32, 32, depth)).volumes)
        for seed, depth in enumerate(depths)
    ]


def diagnoser(batch_mib: float, *, reads_images: bool = False) -> Diagnoser:
    config = tiny.build_config()
    if reads_images:
        images = ImagesSpec(network="resnet10", preprocessing=ImagePreprocessing(size_pixels=(32, 32)))
        config = config.model_copy(update={"volume": None, "images": images})
    labels = tiny.LABELS.model_copy(update={"tasks": tiny.LABELS.fusion_tasks()}) if reads_images else tiny.LABELS
    loaded = LoadedModel(model=tiny.build_model(config, labels), weights_sha256="0" * 64, card=tiny.CARD, metrics={})
    return Diagnoser(loaded, text_encoder=None, graph=None, device=torch.device("cpu"), batch_mib=batch_mib)


def mib_for(rows: int, *, reads_images: bool = False) -> float:
    """A budget that so many rows fit into, and not one more."""
    model = diagnoser(0, reads_images=reads_images).model
    network, row = (model.image_network, (1, 32, 32)) if reads_images else (model.trunk, (8, 32, 32))
    return (rows + 0.5) / rows_that_fit(network, row, 1000.0) * 1000.0


def sizes_of_passes(model: Diagnoser) -> list[int]:
    """Grows by the rows of each pass that the trunk takes."""
    sizes: list[int] = []
    model.model.trunk.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    return sizes


@pytest.mark.parametrize("reads_images", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_cases_read_together_give_the_bits_of_cases_read_alone(rows: int, reads_images: bool) -> None:
    budget = mib_for(rows, reads_images=reads_images)
    together, alone = (diagnoser(budget, reads_images=reads_images) for _ in range(2))
    batch = cases()

    together.read_together(batch)

    for case in batch:
        assert together.view(case).case is case
        ours, theirs = together.diagnose(case), alone.diagnose(case)
        for name, task in ours.tasks.items():
            np.testing.assert_array_equal(task.probabilities, theirs.tasks[name].probabilities)
        for name, region in ours.regions.items():
            np.testing.assert_array_equal(region.mask, theirs.regions[name].mask)


def test_a_shared_pass_changes_nothing_beyond_rounding() -> None:
    shared, apart = diagnoser(mib_for(16)), diagnoser(0)
    batch = cases()
    shared.read_together(batch)

    for case in batch:
        ours, theirs = shared.view(case), apart.view(case)
        assert ours.seen is not None
        assert theirs.seen is not None
        torch.testing.assert_close(ours.seen.region_logits, theirs.seen.region_logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.seen.features, theirs.seen.features, rtol=1e-4, atol=1e-4)


def test_each_case_of_a_batch_can_be_explained() -> None:
    shared, apart = diagnoser(mib_for(16)), diagnoser(0)
    batch = cases()
    shared.read_together(batch)

    for case in batch:
        ours = shared.explain(case, shared.diagnose(case)).tasks["kind"]
        theirs = apart.explain(case, apart.diagnose(case)).tasks["kind"]
        assert ours.target == theirs.target
        for mine, other in zip(ours.volumes, theirs.volumes, strict=True):
            np.testing.assert_allclose(mine.values, other.values, rtol=1e-3, atol=1e-4)


def test_the_large_network_sees_several_cases_in_one_pass() -> None:
    model = diagnoser(mib_for(64))
    seen = sizes_of_passes(model)

    model.read_together(cases())
    for case in cases():
        model.size_of(case)

    assert 2 * sum(DEPTHS) <= 64
    assert seen == [64]


def test_a_large_case_takes_several_passes_of_the_same_memory() -> None:
    model = diagnoser(mib_for(8))
    seen = sizes_of_passes(model)
    large = cases((20,))[0]

    model.read_together([large])

    assert model.size_of(large) == 5.0
    assert seen == [8] * 5


@pytest.mark.slow
def test_shared_passes_are_compiled_too() -> None:
    apart, shared, graphs = diagnoser(mib_for(16)), diagnoser(mib_for(16)), []
    case = cases()[0]

    shared.compile(backend=lambda graph, _: graphs.append(graph) or graph.forward)  # type: ignore[arg-type]  # a backend by itself, to count what is compiled

    ours, theirs = shared.view(case).seen, apart.view(case).seen
    assert graphs
    assert ours is not None
    assert theirs is not None
    torch.testing.assert_close(ours.region_logits, theirs.region_logits, rtol=1e-4, atol=1e-4)


def test_without_a_budget_every_case_is_alone() -> None:
    assert [diagnoser(0).size_of(case) for case in cases()] == [1.0, 1.0, 1.0]


def test_one_bad_case_of_a_batch_leaves_the_others_to_be_read_alone() -> None:
    model, batch = diagnoser(mib_for(64)), cases()
    flat = {role: replace(volume, voxels=np.ones_like(volume.voxels)) for role, volume in batch[1].volumes.items()}
    batch[1] = replace(batch[1], volumes=flat)

    with pytest.raises(InputError, match="one intensity"):
        model.read_together(batch)

    assert model.diagnose(batch[0]).case_id == batch[0].case_id
    with pytest.raises(InputError, match="one intensity"):
        model.diagnose(batch[1])


def test_passes_have_one_size_and_rows_go_back_to_their_case() -> None:
    sizes: list[int] = []

    def look(rows: Tensor) -> tuple[Tensor, ...]:
        sizes.append(len(rows))
        return rows * 10, rows.flatten(1).sum(dim=1)

    first, second = torch.arange(6.0).reshape(3, 2), torch.arange(4.0).reshape(2, 2)

    (tens, sums), (other_tens, other_sums) = in_passes(look, [first, second], 4)

    assert sizes == [4, 4]
    torch.testing.assert_close(torch.cat([tens, other_tens]), torch.cat([first, second]) * 10)
    torch.testing.assert_close(torch.cat([sums, other_sums]), torch.tensor([1.0, 5.0, 9.0, 1.0, 5.0]))


def test_twice_the_memory_holds_twice_the_rows() -> None:
    trunk = diagnoser(0).model.trunk

    rows = [rows_that_fit(trunk, (8, 32, 32), budget) for budget in (0.001, 100, 200)]

    assert rows[0] == 1
    assert rows[2] == pytest.approx(2 * rows[1], abs=1)
