"""From source grids to the network's grid and back: geometry holds for all shapes, bad voxels are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medmm.errors import InputError
from medmm.preprocess import PreparedVolume, Preprocessing, prepare_volume, region_to_model_grid, standardise
from medmm.types import Note, Volume

SPEC = Preprocessing(roles=("t1", "flair"), reference_order=("flair", "t1"), size_pixels=16)


def volume(voxels: np.ndarray, affine_ras: np.ndarray | None = None, notes: tuple[Note, ...] = ()) -> Volume:
    affine = np.diag([2.0, 2.0, 5.0, 1.0]) if affine_ras is None else affine_ras
    return Volume(voxels=voxels[None].astype(np.float32), affine_ras=affine, modality="MR", notes=notes)


def noise(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1, 100, shape).astype(np.float32)


def prepared(volumes: dict[str, Volume], spec: Preprocessing = SPEC) -> PreparedVolume:
    result = prepare_volume(volumes, spec)
    assert result is not None
    return result


def ball(shape: tuple[int, int, int], spacing_mm: np.ndarray, centre_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"), axis=-1)
    return np.linalg.norm((index + 0.5) * spacing_mm - centre_mm, axis=-1) < radius_mm


@settings(max_examples=40, deadline=None)
@given(
    in_plane=st.tuples(st.integers(24, 90), st.integers(24, 90)),
    n_slices=st.integers(8, 40),
    spacing=st.tuples(st.floats(0.5, 2), st.floats(0.5, 2), st.floats(0.8, 6)),
    where=st.tuples(*[st.floats(0.4, 0.6)] * 3),
    size=st.sampled_from([16, 32, 64]),
)
def test_a_ball_comes_back_within_half_a_voxel_for_all_shapes_and_spacings(
    in_plane: tuple[int, int],
    n_slices: int,
    spacing: tuple[float, float, float],
    where: tuple[float, float, float],
    size: int,
) -> None:
    shape, spacing_mm = (*in_plane, n_slices), np.array(spacing)
    extent_mm = np.array(shape) * spacing_mm
    cell_mm = np.array([extent_mm[:2].max() / size] * 2 + [max(2.0, spacing_mm[2])])
    coarser_mm = np.maximum(cell_mm, spacing_mm)
    mask = ball(shape, spacing_mm, np.array(where) * extent_mm, radius_mm=2 * float(coarser_mm.max()))
    spec = SPEC.model_copy(update={"size_pixels": size})
    grid = prepared({"flair": volume(noise(shape), np.diag([*spacing, 1.0]))}, spec).grid

    back = grid.to_source(region_to_model_grid(mask, grid).astype(np.float32)) > 0.5

    shift_mm = (np.array(ndimage.center_of_mass(back)) - ndimage.center_of_mass(mask)) * spacing_mm
    assert back.shape == shape
    assert (np.abs(shift_mm) <= coarser_mm / 2).all()


def test_the_plane_is_padded_to_a_square_in_millimetres() -> None:
    affine = np.diag([1.0, 2.0, 5.0, 1.0])

    grid = prepared({"flair": volume(noise((40, 40, 4)), affine)}).grid

    assert grid.padded_ij == (80, 40)
    assert grid.shape == (4, 16, 16)


def test_slices_thinner_than_the_limit_are_averaged() -> None:
    voxels = noise((16, 16, 8))
    affine = np.diag([1.0, 1.0, 1.0, 1.0])

    array = prepared({"flair": volume(voxels, affine)}).array[1]

    pairs = voxels.reshape(16, 16, 4, 2).mean(axis=3)
    np.testing.assert_allclose(array, standardise(pairs.transpose(2, 1, 0), role="flair"), atol=1e-4)


def test_shrinking_by_two_is_the_mean_of_two_by_two_pixels() -> None:
    voxels = noise((256, 256, 3))
    spec = SPEC.model_copy(update={"size_pixels": 128})

    array = prepared({"flair": volume(voxels)}, spec).array[1]

    blocks = voxels.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3)).transpose(2, 1, 0)
    np.testing.assert_allclose(array, standardise(blocks, role="flair"), atol=1e-4)


def test_a_region_needs_half_of_a_cell() -> None:
    grid = prepared({"flair": volume(noise((32, 32, 3)))}).grid
    mask = np.zeros((32, 32, 3), np.uint8)
    mask[0:2, 0, 1] = 1  # 2 of 4 pixels of the first cell
    mask[4, 4, 1] = 1  # 1 of 4 pixels of another

    region = region_to_model_grid(mask, grid)

    assert np.argwhere(region).tolist() == [[1, 0, 0]]


def test_a_mask_on_another_grid_is_refused() -> None:
    grid = prepared({"flair": volume(noise((32, 32, 3)))}).grid

    with pytest.raises(ValueError, match=r"Expected a mask on the source grid \(32, 32, 3\)"):
        region_to_model_grid(np.zeros((32, 32, 4)), grid)


def test_sequences_on_different_grids_meet_in_world_space() -> None:
    flair, t1 = noise((32, 32, 6)), noise((64, 32, 6))
    flair[20:24, 8:12, 2:4] += 900
    t1[44:52, 8:12, 2:4] += 900
    half_and_shifted = np.diag([1.0, 2.0, 5.0, 1.0])
    half_and_shifted[0, 3] = -4.5  # 44..51 at 1 mm from -4.5 covers the same mm as 20..23 at 2 mm

    array = prepared({"flair": volume(flair), "t1": volume(t1, half_and_shifted)}).array

    centres = [ndimage.center_of_mass(channel > (channel.min() + channel.max()) / 2) for channel in array]
    np.testing.assert_allclose(centres[0], centres[1], atol=0.5)


def test_the_first_sequence_of_the_reference_order_gives_the_grid() -> None:
    grid = prepared({"t1": volume(noise((20, 20, 4))), "flair": volume(noise((30, 30, 5)))}).grid

    assert grid.role == "flair"
    assert grid.source_shape == (30, 30, 5)


def test_absent_sequences_are_zero_and_named() -> None:
    result = prepared({"t1": volume(noise((20, 20, 4)))})

    assert result.present.tolist() == [True, False]
    assert not result.array[1].any()


def test_a_case_without_any_known_sequence_gives_none() -> None:
    assert prepare_volume({"dwi": volume(noise((20, 20, 4)))}, SPEC) is None


def test_notes_of_the_volumes_are_kept_once() -> None:
    note = Note("image.lossy", "Lossy.")

    result = prepared({role: volume(noise((20, 20, 4)), notes=(note,)) for role in ("t1", "flair")})

    assert result.notes == (note,)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_voxels_that_are_no_numbers_are_refused(bad: float) -> None:
    voxels = noise((20, 20, 4))
    voxels[3, 3, 1] = bad

    with pytest.raises(InputError, match="finite voxels in flair") as caught:
        prepare_volume({"flair": volume(voxels)}, SPEC)

    assert caught.value.code == "image.nonfinite"


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(10, 40), st.integers(10, 40), st.integers(3, 12)),
    value=st.floats(-1000, 1000, width=32),
    spacing_k=st.floats(0.7, 6),
)
def test_a_constant_volume_is_refused_for_all_values_and_shapes(
    shape: tuple[int, int, int], value: float, spacing_k: float
) -> None:
    constant = volume(np.full(shape, value), np.diag([1.0, 1.0, spacing_k, 1.0]))

    with pytest.raises(InputError) as caught:
        prepare_volume({"flair": constant}, SPEC)

    assert caught.value.code == "image.constant"


def test_too_few_slices_are_refused() -> None:
    with pytest.raises(InputError, match=r"at least 3 axial slices in flair \(got 2\)") as caught:
        prepare_volume({"flair": volume(noise((20, 20, 2)))}, SPEC)

    assert caught.value.code == "series.too_few"


@settings(max_examples=30, deadline=None)
@given(gain=st.floats(0.01, 1000), offset=st.floats(-100, 100))
def test_intensities_have_no_unit_for_all_gains_and_offsets(gain: float, offset: float) -> None:
    voxels = noise((8, 8, 4)).astype(np.float64)

    changed = standardise(voxels * gain + offset, role="t1")

    np.testing.assert_allclose(changed, standardise(voxels, role="t1"), atol=1e-3)


@pytest.mark.bad_input("G4")
def test_a_grid_that_the_trunk_cannot_quarter_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        Preprocessing(roles=("t1",), reference_order=("t1",), size_pixels=22)
