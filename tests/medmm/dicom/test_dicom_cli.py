"""`series` and `export-nifti`, mounted on an application of their own."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import typer
from dicom_builders import make_slice, write, write_series
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from medmm.dicom.volume import read_volume
from pipelines.cli.dicom import export_nifti, list_series

app = typer.Typer()
app.command("series")(list_series)
app.command("export-nifti")(export_nifti)
runner = CliRunner(env={"COLUMNS": "200"})


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    own = {"SeriesInstanceUID": generate_uid(), "SeriesNumber": 2, "SeriesDescription": "AX T1 Smith", "modality": "MR"}
    write_series(folder / "a", 4)
    write_series(folder / "b", 4, **own)
    gap = write_series(folder / "c", 5, SeriesInstanceUID=generate_uid(), SeriesNumber=3)
    gap[2].unlink()
    (folder / "note.txt").write_text("words " * 40)
    return folder


def test_listing_shows_what_would_be_read_and_what_not_without_a_name(mixed: Path) -> None:
    result = runner.invoke(app, ["series", str(mixed)])

    assert result.exit_code == 1
    assert "1 studies, 3 volumes, 1 would be refused" in result.stdout
    assert "REFUSE series.gap" in result.stdout
    assert "1 x not DICOM: text" in result.stdout
    assert not any(word in result.stdout for word in ("Doe", "P1", "Smith"))


def test_listing_of_a_sound_folder_ends_well_with_pixels_too(tmp_path: Path) -> None:
    write_series(tmp_path, 3)

    assert runner.invoke(app, ["series", str(tmp_path)]).exit_code == 0
    assert runner.invoke(app, ["series", str(tmp_path), "--pixels"]).exit_code == 0


@pytest.mark.bad_input("D6")
def test_control_characters_of_tags_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = write(make_slice(Modality="CT", SeriesDescription="x"), tmp_path / "a")
    path.write_bytes(path.read_bytes().replace(b"CT", b"\x1bT"))

    assert "\x1b" not in runner.invoke(app, ["series", str(tmp_path)]).stdout


def test_one_series_is_exported_as_one_file_equal_to_its_volume(tmp_path: Path) -> None:
    write_series(tmp_path / "in", 4)
    target = tmp_path / "out.nii.gz"

    result = runner.invoke(app, ["export-nifti", str(tmp_path / "in"), str(target)])

    image, volume = nibabel.load(target), read_volume(tmp_path / "in")
    assert result.exit_code == 0
    np.testing.assert_array_equal(image.get_fdata(), volume.voxels[0])
    np.testing.assert_allclose(image.affine, volume.affine_ras)
    assert image.header.get_xyzt_units()[0] == "mm"


def test_a_folder_is_exported_under_names_without_patient_data(mixed: Path, tmp_path: Path) -> None:
    result = runner.invoke(app, ["export-nifti", str(mixed), str(tmp_path / "out")])

    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert result.exit_code == 1
    assert names == ["study1_series1_ct.nii.gz", "study1_series2_t1.nii.gz"]
    assert "series.gap" in result.stderr


def test_a_gap_is_exported_on_request(mixed: Path, tmp_path: Path) -> None:
    command = ["export-nifti", str(mixed / "c"), str(tmp_path / "c.nii"), "--gaps", "resample"]

    assert runner.invoke(app, command).exit_code == 0
    assert nibabel.load(tmp_path / "c.nii").shape == (8, 6, 5)


def test_a_file_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    write_series(tmp_path / "in", 2)
    target = tmp_path / "out.nii"
    target.write_bytes(b"mine")

    result = runner.invoke(app, ["export-nifti", str(tmp_path / "in"), str(target)])

    assert result.exit_code == 2
    assert target.read_bytes() == b"mine"
    assert runner.invoke(app, ["export-nifti", str(tmp_path / "in"), str(target), "--overwrite"]).exit_code == 0


def test_an_unknown_policy_for_gaps_is_a_usage_error(tmp_path: Path) -> None:
    assert runner.invoke(app, ["series", str(tmp_path), "--gaps", "ignore"]).exit_code == 2
