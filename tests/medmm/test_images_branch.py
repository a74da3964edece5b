"""Cases made of images: several pictures or series of any size, one answer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
import torch
from PIL import Image

from medmm.cases import EVERY_SERIES, find_cases
from medmm.checkpoint import load_checkpoint, save_model
from medmm.config import ImagesSpec, Labels, ModelConfig
from medmm.diagnose import load_model
from medmm.encoders.image_networks import IMAGE_NETWORKS, build_image_network
from medmm.encoders.images import pool_maps
from medmm.encoders.lite_network import LiteNetwork
from medmm.errors import InputError, UsageError
from medmm.explain.images import ask_images, occlusion
from medmm.explain.methods import VOLUME_METHODS, ExplanationMethods, VolumeMethod
from medmm.explain.sensitivity import integrated_gradients
from medmm.images import read_image
from medmm.inputs import CaseReader, collate
from medmm.model import MultimodalModel
from medmm.preprocess_images import CENTRE, DEVIATION, ImagePreprocessing, natural_order, prepare_images, slice_axis
from medmm.types import Case, Volume
from pipelines.manifest import parse_volumes
from pipelines.training.what import WhatSettings, train_what

PREPROCESSING = ImagePreprocessing(size_pixels=(32, 32))
LABELS = Labels(tasks=(tiny.KIND, tiny.GRADE))


def volume(voxels: np.ndarray, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Volume:
    return Volume(voxels=voxels[None].astype(np.float32), affine_ras=np.diag([*spacing_mm, 1.0]), modality="MR")


def picture(seed: int, *, shape: tuple[int, int] = (40, 50), square: bool = False) -> Volume:
    """A single image of noise, with a bright square or without."""
    pixels = np.random.default_rng(seed).normal(100, 10, shape)
    if square:
        pixels[8:18, 8:18] = 250
    return volume(pixels[:, :, None])


def build_config(grid: int = 1, network: str = "resnet10") -> ModelConfig:
    images = ImagesSpec(network=network, preprocessing=PREPROCESSING, grid=grid)
    return ModelConfig(name="images", version="0.1.0", width=tiny.WIDTH, images=images, record=(tiny.AGE, tiny.SEX))


@pytest.fixture(scope="module")
def model() -> MultimodalModel:
    return tiny.build_model(build_config(), LABELS)


@pytest.fixture(scope="module")
def reader(model: MultimodalModel) -> CaseReader:
    return CaseReader(model, None, None)


def case_of(*volumes: Volume) -> Case:
    return Case(case_id="a", volumes={f"image-{rank}": item for rank, item in enumerate(volumes, 1)})


def logits(reader: CaseReader, *cases: Case) -> torch.Tensor:
    with torch.no_grad():
        return reader.model(collate([reader.read(case).features for case in cases], reader)).logits["kind"]


def test_images_of_any_size_come_out_alike() -> None:
    prepared = prepare_images({"a": picture(0, shape=(20, 60)), "b": picture(1, shape=(90, 31))}, PREPROCESSING)

    assert prepared is not None
    assert prepared.array.shape == (2, 1, 32, 32)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mark_comes_back_to_where_it_was_on_the_source_grid(axis: int) -> None:
    shape = [40, 48, 56]
    shape[axis] = 5
    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = 6.0
    voxels = np.zeros(shape)
    corner = [6, 6, 6]
    corner[axis] = 3
    where = tuple(slice(start, start + (1 if n == axis else 10)) for n, start in enumerate(corner))
    voxels[where] = 1
    prepared = prepare_images({"a": volume(voxels, tuple(spacing))}, PREPROCESSING)  # type: ignore[arg-type]  # three of them
    assert prepared is not None

    back = prepared.grids[0].to_source(prepared.array[:, 0])

    marked = back > (back.max() + back.min()) / 2
    assert back.shape == tuple(shape)
    assert (marked & (voxels > 0)).sum() / (marked | (voxels > 0)).sum() > 0.75


def test_a_series_as_one_3d_image_comes_back_too() -> None:
    voxels = np.zeros((40, 40, 10))
    voxels[5:15, 20:35, 6:9] = 1
    prepared = prepare_images({"a": volume(voxels, (1, 1, 4))}, ImagePreprocessing(size_pixels=(16, 32, 32)))
    assert prepared is not None

    back = prepared.grids[0].to_source(prepared.array[:, 0])

    marked = back > (back.max() + back.min()) / 2
    assert prepared.array.shape == (1, 1, 16, 32, 32)
    assert (marked & (voxels > 0)).sum() / (marked | (voxels > 0)).sum() > 0.7


def test_a_picture_reaches_the_network_as_it_is_seen(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32), np.uint8)
    pixels[:8, :16] = 200  # top left
    Image.fromarray(pixels).save(tmp_path / "a.png")
    prepared = prepare_images({"a": read_image(tmp_path / "a.png", workers=0)}, PREPROCESSING)

    assert prepared is not None
    np.testing.assert_array_equal(prepared.array[0, 0] > 0, pixels > 0)


@pytest.mark.parametrize(
    ("shape", "spacing", "axis"),
    [
        ((50, 40, 1), (1.0, 1.0, 1.0), 2),
        ((24, 256, 256), (5.0, 0.9, 0.9), 0),
        ((512, 512, 600), (0.7, 0.7, 0.5), 2),
        ((256, 20, 256), (0.9, 6.0, 0.9), 1),
    ],
)
def test_slices_lie_along_the_axis_of_the_odd_spacing(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], axis: int
) -> None:
    empty = np.broadcast_to(np.float32(0), (1, *shape))

    assert slice_axis(Volume(voxels=empty, affine_ras=np.diag([*spacing, 1.0]), modality="CT")) == axis


def test_of_a_long_series_evenly_spaced_slices_are_used_and_it_says_so() -> None:
    series = volume(np.random.default_rng(0).normal(size=(16, 16, 40)), (1, 1, 3))

    prepared = prepare_images({"a": series}, PREPROCESSING.model_copy(update={"slices_per_series": 4}))

    assert prepared is not None
    assert prepared.grids[0].slices == (5, 15, 25, 35)
    assert "4 of a's 40 slices were used." in [note.message for note in prepared.notes]


def test_a_blank_image_is_left_out_and_a_case_of_nothing_else_is_refused() -> None:
    blank = volume(np.ones((8, 8, 1)))

    prepared = prepare_images({"a": blank, "b": picture(0)}, PREPROCESSING)

    assert prepared is not None
    assert [grid.role for grid in prepared.grids] == ["b"]
    with pytest.raises(InputError, match="one intensity only"):
        prepare_images({"a": blank}, PREPROCESSING)


def test_numbers_in_roles_are_counted() -> None:
    assert sorted(["image-10", "image-2", "b"], key=natural_order) == ["b", "image-2", "image-10"]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet10", (32, 32)),
        ("resnet10", (8, 32, 32)),
        pytest.param("densenet121", (32, 32), marks=pytest.mark.slow),
        pytest.param("efficientnet-b0", (32, 32), marks=pytest.mark.slow),
        ("efficientnet-lite0", (32, 32)),
        ("swin-unetr-24", (32, 32)),
        ("vit-tiny", (32, 32)),
        pytest.param("vit-tiny", (16, 32, 32), marks=pytest.mark.slow),
    ],
)
def test_a_network_gives_the_feature_map_it_announces(name: str, size: tuple[int, ...]) -> None:
    network = build_image_network(name, size).eval()

    maps = network(torch.randn(2, 1, *size))

    assert maps.shape[:2] == (2, network.width)
    assert maps.ndim == 2 + len(size)


def test_an_unknown_network_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"resnet18.*got 'resnet9'"):
        build_image_network("resnet9", (32, 32))
    assert "resnet18" in IMAGE_NETWORKS


def test_the_lite_network_sees_prepared_images_as_it_was_trained_on_pictures() -> None:
    plain, network = LiteNetwork().eval(), build_image_network("efficientnet-lite0", (32, 32)).eval()
    network.body.load_state_dict(plain.state_dict())
    picture = torch.rand(1, 1, 32, 32)

    maps = network((picture - CENTRE) / DEVIATION)

    torch.testing.assert_close(maps, plain(picture), atol=1e-4, rtol=1e-4)


def test_the_lite_network_is_for_pictures() -> None:
    with pytest.raises(UsageError, match="a network of pictures"):
        build_image_network("efficientnet-lite0", (8, 32, 32))


def test_tokens_of_an_image_are_the_means_of_its_cells() -> None:
    maps = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4)

    vectors = pool_maps(maps, 2)

    assert vectors.shape == (2 * 4, 3)
    torch.testing.assert_close(vectors[1], maps[0, :, :2, 2:].mean(dim=(1, 2)))
    torch.testing.assert_close(vectors[4], maps[1, :, :2, :2].mean(dim=(1, 2)))


def test_the_order_of_images_does_not_matter(reader: CaseReader) -> None:
    one, two, three = (picture(seed, square=seed == 1) for seed in range(3))

    torch.testing.assert_close(logits(reader, case_of(one, two, three)), logits(reader, case_of(three, one, two)))


def test_cases_of_different_counts_in_a_batch_give_what_they_give_alone(reader: CaseReader) -> None:
    few, many = case_of(picture(0)), case_of(*(picture(seed) for seed in range(1, 5)))

    together = logits(reader, few, many)

    torch.testing.assert_close(together, torch.cat([logits(reader, few), logits(reader, many)]), rtol=1e-4, atol=1e-5)


def test_a_case_without_images_has_no_volume(reader: CaseReader) -> None:
    view = reader.read(replace(tiny.build_case(0), volumes={}))

    assert view.features.present == (False, False, True, False)


def test_gradients_reach_the_network_when_it_is_trained(reader: CaseReader) -> None:
    prepared = prepare_images({"a": picture(0), "b": picture(1)}, PREPROCESSING)
    assert prepared is not None
    vectors = reader.pool(reader.look_at_images(torch.from_numpy(prepared.array)))
    view = reader.read(case_of(picture(0), picture(1)))

    output = reader.model(collate([replace(view.features, images=vectors)], reader))
    gradient = torch.autograd.grad(output.logits["kind"][0, 0], reader.model.image_network.body.conv1.weight)

    assert float(gradient[0].abs().sum()) > 0


def test_a_model_of_images_is_the_same_after_saving(reader: CaseReader, tmp_path: Path) -> None:
    save_model(tmp_path, reader.model, metrics={}, card=tiny.CARD)
    case = case_of(picture(0), picture(1))

    loaded = load_checkpoint(tmp_path).model

    assert loaded.config == reader.model.config
    torch.testing.assert_close(logits(CaseReader(loaded, None, None), case), logits(reader, case), rtol=0, atol=0)


@pytest.mark.parametrize("method", ["integrated_gradients", "smoothgrad", "occlusion"])
def test_methods_of_pixels_draw_each_image_on_its_own_grid(reader: CaseReader, method: VolumeMethod) -> None:
    diagnoser, case = tiny.build_diagnoser(reader.model), case_of(picture(0), picture(1, square=True))

    explanation = diagnoser.explain(case, diagnoser.diagnose(case), methods=ExplanationMethods(volume=method))

    volumes = explanation.tasks["kind"].volumes
    assert volumes
    assert all(item.values.shape == case.volumes[item.role].shape for item in volumes)
    assert max(float(item.values.max()) for item in volumes) == pytest.approx(1, abs=1e-3)


def test_integrated_gradients_of_images_add_up(reader: CaseReader) -> None:
    view = reader.read(case_of(picture(0), picture(1, square=True)))
    question = ask_images(reader, view, reader.model.labels.task("kind"), 0)

    found = integrated_gradients(question, steps=64)

    change = float(question.margin(question.volume) - question.margin(question.blank()))
    assert float(found.sum()) == pytest.approx(change, rel=0.1, abs=1e-3)


def test_covering_a_box_is_asked_of_its_own_image(reader: CaseReader) -> None:
    view = reader.read(case_of(picture(0), picture(1, square=True)))
    question = ask_images(reader, view, reader.model.labels.task("kind"), 0)
    covered = question.volume.clone()
    height, width = (edge // 8 for edge in covered.shape[2:])
    covered[0, 1, :height, :width] = question.blank()[0, 1, :height, :width]

    falls = occlusion(question)

    fall = float(question.margin(question.volume) - question.margin(covered))
    assert float(falls[1, 0, 0]) == pytest.approx(fall, abs=1e-4)


@pytest.mark.slow
def test_a_heatmap_lies_on_the_image_that_shows_the_square() -> None:
    network = tiny.build_model(build_config(), LABELS)
    reader = CaseReader(network, None, None)
    cases = [case_of(picture(seed), picture(seed + 50, square=seed % 2 == 1)) for seed in range(24)]
    features = [reader.read(case).features for case in cases]
    targets = {"kind": np.arange(24) % 2, "grade": np.full(24, -1)}
    train_what(reader, features, targets, WhatSettings(epochs=25, batch_size=8, learning_rate=1e-2))
    diagnoser = tiny.build_diagnoser(network)
    unseen = [case_of(picture(seed), picture(seed + 500, square=True)) for seed in range(300, 306)]

    found: dict[str, int] = {}
    for method in VOLUME_METHODS:
        firsts = []
        for case in unseen:
            diagnosis = diagnoser.diagnose(case)
            assert diagnosis.tasks["kind"].prediction == "meningioma"
            explanation = diagnoser.explain(case, diagnosis, methods=ExplanationMethods(volume=method))
            firsts.append(explanation.tasks["kind"].volumes[0])
        assert all(item.values.shape == (40, 50, 1) for item in firsts)
        found[method] = sum(item.role == "image-2" for item in firsts)

    assert all(count >= 5 for count in found.values()), found


def test_a_manifest_may_name_pictures_without_roles() -> None:
    assert parse_volumes("a.png; b.png", Path("x")) == {"volume-1": Path("x/a.png"), "volume-2": Path("x/b.png")}
    assert parse_volumes("a.png", Path("x")) == {"volume": Path("x/a.png")}


@pytest.mark.shared
def test_hospital_exports_of_single_images_are_diagnosed(reader: CaseReader, shared_data: Path, tmp_path: Path) -> None:
    save_model(tmp_path, reader.model, metrics={}, card=tiny.CARD)
    diagnoser = load_model(str(tmp_path), device="cpu")
    plans = find_cases(shared_data / "medpix_dicom", roles=diagnoser.spec.roles).plans

    counts = []
    for plan in plans:
        case = plan.read()
        diagnosis = diagnoser.diagnose(case)
        assert diagnosis.present["volume"]
        counts.append(len(case.volumes))

    assert diagnoser.spec.roles == (EVERY_SERIES,)
    assert sorted(counts) == [2, 2, 3, 4, 5, 6]
