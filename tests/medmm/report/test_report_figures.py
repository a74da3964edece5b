"""Slices, grids and NIfTI: orientation, proportions, grey levels, masks between series, values that survive."""

import base64
import io
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from report_examples import AFFINE, LESION, SHAPE, make_explanation

from medmm.report.colours import colour_table
from medmm.report.embed import MEDIA_BUDGET_BYTES, viewer_data
from medmm.report.figures import (
    SlicePicture,
    acquisition_plane,
    grey_scale,
    outline_segments,
    render_slice,
    take_plane,
)
from medmm.report.grids import DisplayGrid, choose_factors, index_on_grid, merge_blocks, values_on_grid
from medmm.report.pictures import key_slices
from medmm.report.texts import load_texts
from medmm.types import Volume


@pytest.mark.parametrize(
    ("plane", "corner"),
    [("axial", (3, 4, 0)), ("coronal", (3, 0, 5)), ("sagittal", (0, 4, 5))],
)
def test_right_front_and_top_of_the_patient_come_upper_left(plane: str, corner: tuple[int, int, int]) -> None:
    array = np.zeros((4, 5, 6))
    array[corner] = 1

    picture = take_plane(array, plane, 0)

    assert picture[0, 0] == 1
    assert picture.shape == {"axial": (5, 4), "coronal": (6, 4), "sagittal": (6, 5)}[plane]


def test_pictures_keep_physical_proportions() -> None:
    picture = render_slice(SlicePicture(grey=np.zeros((6, 40), dtype=np.uint8), pixel_mm=(4.0, 1.0)), height=400)

    assert picture.size == (400, 240)


@pytest.mark.parametrize(
    ("spacing_mm", "shape", "plane"),
    [
        ((1, 1, 5), (9, 9, 9), "axial"),
        ((5, 1, 1), (9, 9, 9), "sagittal"),
        ((1, 6, 1), (9, 9, 9), "coronal"),
        ((1, 1, 1), (9, 9, 9), "axial"),
        ((1, 1, 1), (9, 1, 9), "coronal"),
    ],
)
def test_plane_of_acquisition_lies_across_the_widest_spacing(
    spacing_mm: tuple[float, float, float], shape: tuple[int, int, int], plane: str
) -> None:
    assert acquisition_plane(spacing_mm, shape) == plane


def test_ct_codes_keep_single_hounsfield_units_in_a_brain_window() -> None:
    values = np.arange(0, 81, dtype=np.float32)

    codes = grey_scale(values, is_hounsfield=True).encode(values)

    assert len(set(codes.tolist())) == 81


def test_grey_levels_of_constant_or_broken_values_stay_defined() -> None:
    for voxels in (np.full((2, 2, 2), 7.0), np.full((2, 2, 2), np.nan)):
        scale = grey_scale(voxels, is_hounsfield=False)

        assert scale.encode(voxels).dtype == np.uint8
        assert scale.low < scale.high


def test_one_pixel_has_four_edges() -> None:
    mask = np.zeros((3, 3))
    mask[1, 1] = 1

    assert sorted(outline_segments(mask)) == [(1, 1, 1, 2), (1, 1, 2, 1), (1, 2, 2, 2), (2, 1, 2, 2)]


def test_heat_paints_only_where_attribution_is() -> None:
    heat = np.zeros((10, 10))
    heat[:5] = 1

    picture = np.asarray(
        render_slice(SlicePicture(grey=np.full((10, 10), 90, dtype=np.uint8), pixel_mm=(1, 1), heat=heat), height=100)
    )

    assert (picture[80:] == 90).all()
    assert (picture[10, :, 0] > 150).all()


def test_colours_rise_in_lightness_and_match_magma() -> None:
    import matplotlib as mpl

    table = colour_table().astype(float)
    expected = mpl.colormaps["magma"](np.arange(253), bytes=True)[:, :3].astype(float)

    assert np.abs(table[:253] - expected).max() <= 2
    lightness = table @ (0.2126, 0.7152, 0.0722)
    assert all(later >= earlier - 0.6 for earlier, later in pairwise(lightness))


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40)),
    spacing_mm=st.tuples(st.floats(0.3, 6), st.floats(0.3, 6), st.floats(0.3, 6)),
    budget=st.integers(8, 5000),
)
def test_merging_keeps_every_grid_within_its_budget(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], budget: int
) -> None:
    factors = choose_factors(shape, spacing_mm, budget)
    grid = DisplayGrid(shape=shape, affine_ras=np.diag([*spacing_mm, 1.0]), factors=factors)

    assert np.prod(grid.display_shape) <= budget
    assert merge_blocks(np.ones(shape), factors, "mean").shape == grid.display_shape
    first = grid.display_affine_ras[:3, 3]
    assert np.allclose(first, [(factor - 1) / 2 * edge for factor, edge in zip(factors, spacing_mm, strict=True)])


def test_mask_is_carried_to_another_series_by_position() -> None:
    mask = np.zeros((10, 10, 10), dtype=np.uint8)
    mask[4:6, 4:6, 4:6] = 1
    grid = DisplayGrid(
        shape=(20, 20, 20), affine_ras=np.diag([0.5, 0.5, 0.5, 1.0]) + np.eye(4, k=3) * 1.0, factors=(1, 1, 1)
    )

    carried = values_on_grid(mask, np.eye(4), grid, "max")

    positions = (grid.affine_ras @ np.array([*np.argwhere(carried).mean(axis=0), 1.0]))[:3]
    assert np.allclose(positions, 4.5, atol=0.3)
    assert carried.sum() == pytest.approx(8 * mask.sum(), rel=0.3)


def test_heatmap_of_one_series_is_carried_to_the_others() -> None:
    explained = make_explanation()
    why = explained.tasks["side"]
    shifted = AFFINE + np.array([[0, 0, 0, 3], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    t1 = replace(explained.case.volumes["t1"], affine_ras=shifted)
    case = replace(explained.case, volumes={**explained.case.volumes, "t1": t1})
    explained = replace(explained, case=case, tasks={"side": replace(why, volumes=why.volumes[1:])})

    series = {part["role"]: part for part in viewer_data(explained.report())["series"]}

    own, carried = series["flair"]["heatmaps"][0], series["t1"]["heatmaps"][0]
    assert (own["carried"], carried["carried"]) == ("", "flair")
    assert (own["peak"], carried["peak"]) == ([30, 22, 3], [27, 22, 3])


def test_position_outside_a_volume_has_no_index() -> None:
    grid = DisplayGrid(shape=(4, 4, 4), affine_ras=np.eye(4), factors=(2, 2, 1))

    assert index_on_grid((3.4, 1.0, 2.0), grid) == [1, 0, 2]
    assert index_on_grid((4.0, 1.0, 2.0), grid) is None


def test_heatmap_file_opens_on_the_source_grid(tmp_path: Path) -> None:
    explained = make_explanation()

    paths = explained.report().save(tmp_path, formats=["nii"])

    heat = nibabel.load(paths.heatmaps["heatmaps/flair_side.nii.gz"])
    mask = nibabel.load(paths.masks["tumour"])
    values = explained.tasks["side"].volumes[1].values
    assert np.abs(heat.get_fdata() - values).max() <= 0.0005
    assert np.array_equal(heat.affine, AFFINE)
    assert np.array_equal(mask.get_fdata(), explained.diagnosis.regions["tumour"].mask)
    assert heat.header.get_xyzt_units()[0] == "mm"
    assert heat.header["sform_code"] == heat.header["qform_code"] == 1


def test_oblique_affine_survives_in_the_file(tmp_path: Path) -> None:
    turn = np.array([[0.98, -0.17, 0.1, 3], [0.17, 0.98, 0.0, -4], [-0.1, 0.0, 3.9, 5], [0, 0, 0, 1.0]])
    explained = make_explanation()
    why = explained.tasks["side"]
    turned = replace(why, volumes=tuple(replace(part, affine_ras=turn) for part in why.volumes))

    paths = replace(explained, tasks={"side": turned}).report().save(tmp_path, formats=["nii"])

    heat = nibabel.load(paths.heatmaps["heatmaps/t1_side.nii.gz"])
    assert np.allclose(heat.affine, turn, atol=1e-6)


def test_viewer_sheet_holds_every_voxel_in_its_place() -> None:
    report = make_explanation().report()
    part = viewer_data(report)["series"][1]
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(part["atlas"].split(",")[1]))))
    width, height, count = part["dims"]

    tiles = [
        sheet[
            (k // part["columns"]) * height : (k // part["columns"] + 1) * height,
            (k % part["columns"]) * width : (k % part["columns"] + 1) * width,
        ].T
        for k in range(count)
    ]

    expected = grey_scale(report.volumes["flair"].voxels[0], is_hounsfield=False).encode(
        report.volumes["flair"].voxels[0]
    )
    assert tuple(part["dims"]) == SHAPE
    # Grey levels go through JPEG: close on average, and the lesion far above the rest.
    assert np.abs(np.stack(tiles, axis=2).astype(int) - expected).mean() < 8
    assert np.stack(tiles, axis=2)[LESION].min() > 128


def test_large_volumes_are_reduced_until_they_fit() -> None:
    noise = np.random.default_rng(0).normal(0, 300, (1, 256, 256, 100)).astype(np.float32)
    volume = Volume(voxels=noise, affine_ras=np.diag([1, 1, 2, 1.0]), modality="CT", unit="HU")
    report = replace(make_explanation().report(), volumes={"ct": volume}, heatmaps={}, masks={})

    data = viewer_data(report)

    part = data["series"][0]
    assert len(part["atlas"]) <= MEDIA_BUDGET_BYTES
    assert part["source"] == [256, 256, 100]
    assert max(part["factors"]) > 1


def test_key_slices_show_the_region_then_each_heatmap() -> None:
    explained = make_explanation()
    why = explained.tasks["grade"]
    other = tuple(replace(part, values=part.values**2) for part in why.volumes)
    explained = replace(explained, tasks={**explained.tasks, "grade": replace(why, volumes=other)})

    slices = key_slices(explained.report(), load_texts("en"))

    assert [part.kind for part in slices] == ["region", "heat", "heat"]
    assert slices[1].caption.startswith("Evidence for “Side: Right side” (grad-cam), at its peak.")
    assert slices[0].caption == "Tumour outlined. FLAIR, axial slice 4 of 6."
    assert slices[0].plain.tobytes() != slices[0].overlay.tobytes()


def test_tasks_with_the_same_heatmap_share_a_key_slice() -> None:
    slices = key_slices(make_explanation().report(), load_texts("en"))

    assert [part.kind for part in slices] == ["region", "heat"]
    assert slices[1].caption.startswith("Evidence for “Side: Right side”, “Grade: Low grade” (grad-cam)")
