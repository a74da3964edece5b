"""NIfTI files and single pictures (PNG, JPEG) through the same `Volume` as DICOM."""

import os
import tempfile
import warnings
from pathlib import Path

import numpy as np

from medmm.dicom.geometry import to_canonical
from medmm.dicom.limits import DEFAULT_LIMITS, Limits
from medmm.errors import InputError
from medmm.types import Note, Volume

_NIFTI = (".nii", ".nii.gz", ".hdr", ".img")
_PICTURES = (".png", ".jpg", ".jpeg")


def is_image_file(path: Path) -> bool:
    """Whether a path names a NIfTI or picture file (by suffix; the content is checked when it is read)."""
    return path.name.lower().endswith((*_NIFTI, *_PICTURES)) and not path.is_dir()


def read_image(
    path: str | Path, *, modality: str = "", workers: int | None = None, limits: Limits = DEFAULT_LIMITS
) -> Volume:
    """Return a NIfTI volume or a picture.

    Args:
        path: `.nii`, `.nii.gz`, `.png`, `.jpg` or `.jpeg`.
        modality: What the file cannot say: `CT`, `MR`; empty when unknown.
        workers: 0 reads in this process, without protection against crashes and hangs: for trusted files only.
        limits: Caps on sizes.
    Returns:
        float32 (C, I, J, K) in RAS+; C counts the volumes of a 4D NIfTI. A picture is one axial slice as shown to a
        radiologist: its left is the patient's right, its top the front, so I runs against its columns and J against
        its rows. Its affine is the identity (no spacing is known), and a note says so.
    Raises:
        InputError: io.unreadable, image.color, image.nonfinite, limit.*, decode.failed, dicom.bad_value.
    """
    if workers == 0:
        return read_image_here(Path(path), modality, limits)
    from medmm.dicom.filling import image_by_worker

    return image_by_worker(Path(path), modality, limits)


def read_image_here(source: Path, modality: str, limits: Limits) -> Volume:
    """Return an image read in this process; see `read_image`."""
    if not source.is_file():
        raise InputError("Expected an image file (found none).", code="io.unreadable")
    if source.name.lower().endswith(_PICTURES):
        return _read_picture(source, modality, limits)
    return _read_nifti(source, modality, limits)


def _read_nifti(path: Path, modality: str, limits: Limits) -> Volume:
    import nibabel

    try:
        image = nibabel.load(path)
        shape = image.shape  # type: ignore[attr-defined]
        affine = np.asarray(image.affine, dtype=np.float64)  # type: ignore[attr-defined]
        if int(np.prod(shape, dtype=np.int64)) > limits.voxels:
            raise InputError(
                f"Expected at most {limits.voxels} voxels (the header claims {shape}).", code="limit.pixels"
            )
        if len(shape) < 2 or (len(shape) > 4 and any(size > 1 for size in shape[4:])):
            raise InputError(f"Expected 3 or 4 dimensions (got {shape}).", code="dicom.bad_value")
        voxels = np.asarray(image.dataobj, dtype=np.float32)  # type: ignore[attr-defined]
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, ValueError, KeyError) as error:
        raise InputError(
            f"Expected a whole NIfTI file (reading it failed: {type(error).__name__}).", code="io.unreadable"
        ) from error
    if not (np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-9):
        raise InputError("Expected an affine with a volume (got none).", code="dicom.bad_value")
    voxels = voxels.reshape(*shape[:3], *(1,) * (3 - len(shape)), -1) if len(shape) < 4 else voxels.reshape(*shape[:4])
    size = (voxels.shape[0], voxels.shape[1], voxels.shape[2])
    canonical = to_canonical(affine, size)
    flips = tuple(slice(None, None, -1 if flip else 1) for flip in canonical.is_flipped)
    turned = np.ascontiguousarray(voxels[flips].transpose(*canonical.axis_of, 3).transpose(3, 0, 1, 2))
    return Volume(
        voxels=turned,
        affine_ras=canonical.affine_ras,
        modality=modality,
        unit="HU" if modality == "CT" else "a.u.",
        notes=_value_notes(turned),
    )


def _read_picture(path: Path, modality: str, limits: Limits) -> Volume:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                if picture.width * picture.height > limits.voxels:
                    raise InputError("Expected a smaller picture.", code="limit.pixels")
                pixels = np.asarray(picture.convert("RGB") if picture.mode in ("P", "RGBA", "CMYK") else picture)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError("Expected a smaller picture.", code="limit.pixels") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise InputError(
            f"Expected a whole PNG or JPEG picture (reading it failed: {type(error).__name__}).", code="io.unreadable"
        ) from error
    pixels = _one_channel(pixels)
    voxels = np.ascontiguousarray(pixels[::-1, ::-1].T, dtype=np.float32)[None, :, :, None]
    place = Note("dicom.missing_tag", "A picture does not say where it lies or how large a pixel is: affine identity.")
    return Volume(voxels=voxels, affine_ras=np.eye(4), modality=modality, notes=(place, *_value_notes(voxels)))


def _one_channel(pixels: np.ndarray) -> np.ndarray:
    """The grey values of a picture (rows, columns[, channels]).

    Raises:
        InputError: image.color when its channels differ.
    """
    if pixels.ndim == 2:
        return pixels
    is_grey_with_alpha = pixels.shape[2] == 2
    if is_grey_with_alpha or (pixels[..., :3] == pixels[..., :1]).all():
        return pixels[..., 0]
    raise InputError("Expected a grey picture (got colours).", code="image.color")


def _value_notes(voxels: np.ndarray) -> tuple[Note, ...]:
    if not np.isfinite(voxels).all():
        raise InputError("Expected finite voxels (got NaN or infinity).", code="image.nonfinite")
    return (Note("image.constant", "Every voxel has the same value."),) if voxels.min() == voxels.max() else ()


def write_nifti(volume: Volume, path: str | Path) -> None:
    """Write a volume as `.nii` or `.nii.gz`, float32, RAS affine in mm; several channels become a fourth dimension.

    The file appears whole or not at all: it is written beside its place, flushed, and renamed.
    """
    import nibabel

    target = Path(path)
    channels = volume.voxels.shape[0]
    values = volume.voxels[0] if channels == 1 else np.moveaxis(volume.voxels, 0, 3)
    image = nibabel.Nifti1Image(np.asarray(values, dtype=np.float32), volume.affine_ras)
    image.header.set_xyzt_units("mm")
    suffix = ".nii.gz" if target.name.lower().endswith(".gz") else ".nii"
    descriptor, name = tempfile.mkstemp(prefix=".medmm-", suffix=suffix, dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb"):
            nibabel.save(image, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
