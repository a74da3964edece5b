"""Voxels of a phantom head: nested ellipsoids, a planted lesion, bias field and noise. Positions are RAS mm.

Anatomy is evaluated at the world position of every voxel, so any acquisition geometry shows the same patient.
"""

from dataclasses import dataclass

import numpy as np

from medmm.synthetic.plan import PlantedCase

SHAPE = (96, 96, 20)
SPACING_MM = (2.0, 2.0, 6.0)

BACKGROUND, SCALP, SKULL, CSF, GREY, WHITE, OEDEMA, CORE, RIM, SOLID, TAIL, PLAQUE = range(12)

# Arbitrary units before gain; the order within a sequence is that of clinical spin-echo and FLAIR images.
INTENSITY: dict[str, dict[int, float]] = {
    "t1": {SCALP: 900, SKULL: 90, CSF: 170, GREY: 440, WHITE: 590,
           OEDEMA: 410, CORE: 260, RIM: 430, SOLID: 440, TAIL: 440, PLAQUE: 330},
    "flair": {SCALP: 620, SKULL: 80, CSF: 100, GREY: 520, WHITE: 430,
              OEDEMA: 820, CORE: 560, RIM: 760, SOLID: 700, TAIL: 560, PLAQUE: 930},
    "t1ce": {SCALP: 920, SKULL: 90, CSF: 170, GREY: 460, WHITE: 600,
             OEDEMA: 410, CORE: 270, RIM: 1050, SOLID: 1000, TAIL: 900, PLAQUE: 330},
}  # fmt: skip
NOISE_SIGMA = 28.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Phantom:
    """Tissue labels uint8 (columns, rows, slices) as acquired, and `affine_ras` (4, 4) from those indices to mm."""

    tissue: np.ndarray
    affine_ras: np.ndarray
    positions_ras_mm: np.ndarray

    @property
    def lesion_mask(self) -> np.ndarray:
        """Every voxel of the abnormality, oedema and dural tail included; bool, the shape of `tissue`."""
        return self.tissue >= OEDEMA


def build_phantom(case: PlantedCase, rng: np.random.Generator) -> Phantom:
    """The labelled head of `case`, tilted and shifted a little as patients lie in scanners."""
    affine = _acquisition_affine(rng)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    positions = grid @ affine[:3, :3].T + affine[:3, 3]
    size = rng.uniform(0.97, 1.03)
    tissue = np.zeros(SHAPE, dtype=np.uint8)
    brain = _inside(positions, (0, 0, 0), (68 * size, 82 * size, 58 * size))
    tissue[_inside(positions, (0, 0, 0), (79, 93, 70))] = SCALP
    tissue[_inside(positions, (0, 0, 0), (74, 88, 65))] = SKULL
    tissue[_inside(positions, (0, 0, 0), (70 * size, 84 * size, 60 * size))] = CSF
    tissue[brain] = GREY
    tissue[_inside(positions, (0, 0, 0), (58 * size, 71 * size, 48 * size))] = WHITE
    tissue[(np.abs(positions[..., 0]) < 1.5) & (positions[..., 2] > 15) & brain] = CSF
    for sign in (-1, 1):
        tissue[_inside(positions, (sign * 11, 0, 8), (7, 26, 12))] = CSF
        tissue[_inside(positions, (sign * 22, 4, 4), (6, 14, 9))] = GREY
    _plant_lesion(tissue, positions, case, brain)
    return Phantom(tissue=tissue, affine_ras=affine, positions_ras_mm=positions)


def render(phantom: Phantom, role: str, rng: np.random.Generator) -> np.ndarray:
    """Stored values uint16 (columns, rows, slices) of one sequence: contrast, coil shading, magnitude noise, gain."""
    table = np.array([INTENSITY[role].get(label, 0.0) for label in range(PLAQUE + 1)])
    clean = table[phantom.tissue]
    slope = rng.uniform(-0.0018, 0.0018, size=3)
    shading = 1 + phantom.positions_ras_mm @ slope
    real, imaginary = rng.normal(scale=NOISE_SIGMA, size=(2, *SHAPE))
    magnitude = np.hypot(clean * shading + real, imaginary)
    return np.clip(np.round(magnitude * rng.uniform(0.7, 1.6)), 0, 4095).astype(np.uint16)


def _plant_lesion(tissue: np.ndarray, positions: np.ndarray, case: PlantedCase, brain: np.ndarray) -> None:
    centre, r = np.array(case.centre_ras_mm), case.radius_mm
    if case.disease.appearance == "ring":
        tissue[_inside(positions, centre, (1.5 * r, 1.6 * r, 1.35 * r)) & brain & (tissue != CSF)] = OEDEMA
        tissue[_inside(positions, centre, (r, r, r)) & brain] = RIM
        tissue[_inside(positions, centre, (0.6 * r, 0.6 * r, 0.6 * r)) & brain] = CORE
    elif case.disease.appearance == "solid":
        intracranial = (tissue >= CSF) & (tissue <= WHITE)
        surface = intracranial & ~_inside(positions, (0, 0, 0), (65, 79, 55))
        tissue[surface & _inside(positions, centre, (1.7 * r, 1.7 * r, 1.2 * r))] = TAIL
        tissue[intracranial & _inside(positions, centre, (r, r, r))] = SOLID
    else:
        for offset in ((0.0, -17.0, 0.0), (1.0, 0.0, 5.0), (-1.0, 16.0, -1.0)):
            place = centre + np.array(offset)
            ovoid = _inside(positions, place, (1.2 * r, 0.75 * r, 0.9 * r))
            tissue[ovoid & brain & (tissue != CSF)] = PLAQUE


def _inside(positions: np.ndarray, centre: object, radii: tuple[float, float, float]) -> np.ndarray:
    return (((positions - np.asarray(centre)) / np.asarray(radii)) ** 2).sum(axis=-1) <= 1


def _acquisition_affine(rng: np.random.Generator) -> np.ndarray:
    """Axial slices with up to 6 degrees of tilt; columns grow to the patient's left, rows to posterior (as DICOM)."""
    tilt = np.deg2rad(rng.uniform(-6, 6))
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    directions = turn @ np.diag([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(SPACING_MM)
    shift = rng.uniform(-3, 3, size=3)
    affine[:3, 3] = shift - affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    # Image Position (Patient) is a decimal string; what is rounded there must be rounded in the truth as well.
    affine[:3, 3] = np.round(affine[:3, 3], 4)
    return affine
