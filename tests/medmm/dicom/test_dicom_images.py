"""NIfTI volumes and pictures through the same door."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from medmm.dicom.limits import Limits
from medmm.dicom.volume import read_volume
from medmm.errors import InputError


def cube(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIR"])
def test_a_nifti_of_any_orientation_becomes_ras_as_nibabel_does_it(tmp_path: Path, codes: str) -> None:
    affine = np.array([[0.5, 0.02, 0, 3], [0, 0.75, 0, -4], [0, 0, 2.5, 5], [0, 0, 0, 1]], dtype=float)
    image = nibabel.Nifti1Image(cube(4, 5, 6), affine)
    wanted = nibabel.orientations.axcodes2ornt(codes)
    turned = image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), wanted))
    nibabel.save(turned, tmp_path / "a.nii.gz")

    volume = read_volume(tmp_path / "a.nii.gz")

    np.testing.assert_array_equal(volume.voxels[0], cube(4, 5, 6))
    np.testing.assert_allclose(volume.affine_ras, affine, atol=1e-5)


def test_a_fourth_dimension_becomes_channels(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(cube(4, 5, 6, 3), np.eye(4)), tmp_path / "a.nii")

    volume = read_volume(tmp_path / "a.nii")

    np.testing.assert_array_equal(volume.voxels, np.moveaxis(cube(4, 5, 6, 3), 3, 0))


@pytest.mark.parametrize("mode", ["L", "I;16", "LA", "RGB", "P"])
def test_a_grey_picture_lies_as_a_radiologist_sees_it(tmp_path: Path, mode: str) -> None:
    pixels = (cube(6, 8) * 5).astype(np.uint16 if mode == "I;16" else np.uint8)
    picture = Image.fromarray(pixels)
    (picture if mode == "I;16" else picture.convert(mode)).save(tmp_path / "a.png")

    volume = read_volume(tmp_path / "a.png")

    assert volume.shape == (8, 6, 1)
    assert volume.voxels[0, -1, -1, 0] == pixels[0, 0]  # the picture's top left is the patient's right front
    assert volume.voxels[0, 0, -1, 0] == pixels[0, -1]
    np.testing.assert_array_equal(volume.affine_ras, np.eye(4))
    assert "affine identity" in volume.notes[0].message


def refusal(path: Path, limits: Limits | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        read_volume(path, limits=limits or Limits())
    return caught.value


def test_a_coloured_picture_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)).save(tmp_path / "a.png")

    assert refusal(tmp_path / "a.png").code == "image.color"


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.png", "a.jpg"])
@pytest.mark.parametrize("content", [b"", b"\0" * 400, b"not an image " * 60])
def test_files_that_only_have_the_name_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)

    assert refusal(tmp_path / name).code == "io.unreadable"


def test_cut_images_are_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(cube(9, 9, 9), np.eye(4)), tmp_path / "a.nii.gz")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80), np.uint8)).save(tmp_path / "b.png")
    for path in (tmp_path / "a.nii.gz", tmp_path / "b.png"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])

        assert refusal(path).code == "io.unreadable"


def test_a_nifti_that_claims_too_much_is_refused_before_allocation(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(cube(4, 4, 4), np.eye(4)), tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    (tmp_path / "a.nii").write_bytes(raw)

    assert refusal(tmp_path / "a.nii").code == "limit.pixels"


def test_a_flat_affine_and_nan_voxels_are_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(cube(3, 3, 3), np.eye(4)), tmp_path / "a.nii")
    raw = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(raw[:312] + b"\0" * 16 + raw[328:])  # the third row of the affine
    nibabel.save(nibabel.Nifti1Image(np.full((3, 3, 3), np.nan, np.float32), np.eye(4)), tmp_path / "b.nii")

    assert refusal(tmp_path / "a.nii").code == "dicom.bad_value"
    assert refusal(tmp_path / "b.nii").code == "image.nonfinite"
