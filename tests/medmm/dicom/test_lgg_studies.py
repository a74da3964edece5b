"""The development studies of glioma patients: three MR sequences each, one patient without contrast."""

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medmm.dicom.discover import discover
from medmm.dicom.sequences import choose_series
from medmm.dicom.types import Discovery
from medmm.dicom.volume import read_volume

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def found(shared_data: Path) -> Discovery:
    return discover(shared_data / "lgg_dicom")


def test_every_sequence_of_every_patient_gets_its_role(shared_data: Path, found: Discovery) -> None:
    with (shared_data / "lgg_dicom" / "index.csv").open() as file:
        rows = {row["patient_id"]: row for row in csv.DictReader(file)}

    for study in found.studies:
        chosen = choose_series(study, ["t1", "flair", "t1ce"])

        expected = {"t1", "flair"} | ({"t1ce"} if rows[study.patient_id]["has_post"] == "1" else set())
        assert set(chosen) == expected
        words = {"t1": "AX T1 PRE", "flair": "AX T2 FLAIR", "t1ce": "AX T1 POST GD"}
        assert {role: series.description for role, series in chosen.items()} == {role: words[role] for role in expected}
    assert {study.patient_id for study in found.studies} == set(rows)


def test_voxels_and_corner_of_an_axial_series_are_where_the_header_says(found: Discovery) -> None:
    series = next(study for study in found.studies if study.patient_id == "TCGA-CS-5395").series[0]

    volume = read_volume(series)

    dataset = min((pydicom.dcmread(file) for file in series.files), key=lambda one: one.ImagePositionPatient[2])
    lowest_slice = volume.voxels[0, ::-1, ::-1, 0].T
    np.testing.assert_array_equal(lowest_slice, dataset.pixel_array)
    x, y, z = (float(value) for value in dataset.ImagePositionPatient)
    corner = volume.affine_ras @ [volume.shape[0] - 1, volume.shape[1] - 1, 0, 1]
    np.testing.assert_allclose(corner[:3], [-x, -y, z], atol=0.01)
