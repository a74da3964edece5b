"""Series and geometry, BAD_INPUTS.md section C: each row builds its input and says what must come of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_builders import make_slice, slice_pixels, write, write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, generate_uid

from medmm.dicom import discover
from medmm.dicom.geometry import to_canonical
from medmm.dicom.sequences import choose_series
from medmm.dicom.types import Series
from medmm.dicom.volume import read_volume
from medmm.errors import InputError


def all_series(folder: Path) -> list[Series]:
    return [series for study in discover(folder).studies for series in study.series]


def refusal(source: Path | Series) -> InputError:
    with pytest.raises(InputError) as caught:
        read_volume(source)
    return caught.value


def lps_corner(volume_affine: np.ndarray, index: tuple[int, int, int]) -> np.ndarray:
    return (np.diag([-1, -1, 1, 1]) @ volume_affine @ [*index, 1])[:3]


@pytest.mark.bad_input("C1")
@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_slices_are_a_volume_and_one_is_noted(tmp_path: Path, count: int) -> None:
    write_series(tmp_path, count)

    volume = read_volume(tmp_path)

    assert volume.shape == (8, 6, count)
    assert ("series.too_few" in {note.code for note in volume.notes}) == (count == 1)


@pytest.fixture
def gapped(tmp_path: Path) -> Path:
    write_series(tmp_path, 6)
    (tmp_path / "IM0003.dcm").unlink()
    return tmp_path


@pytest.mark.bad_input("C2")
def test_a_missing_slice_is_refused_with_the_steps_in_mm(gapped: Path) -> None:
    error = refusal(gapped)

    assert error.code == "series.gap"
    assert "2.50 to 5.00 mm" in str(error)


@pytest.mark.bad_input("C2")
def test_a_missing_slice_is_interpolated_on_request_with_a_note(gapped: Path) -> None:
    volume = read_volume(gapped, gaps="resample")

    assert volume.shape == (8, 6, 6)
    between = (slice_pixels(2).astype(np.float32) + slice_pixels(4)) / 2 - 1024
    np.testing.assert_allclose(volume.voxels[0, ::-1, ::-1, 3].T, between)
    np.testing.assert_allclose(volume.voxels[0, ::-1, ::-1, 5].T, slice_pixels(5).astype(np.float32) - 1024)
    np.testing.assert_allclose(lps_corner(volume.affine_ras, (7, 5, 5)), [-10, -20, 42.5], atol=0.01)
    note = next(note for note in volume.notes if note.code == "series.gap")
    assert "2.50, 5.00 mm" in note.message
    assert "1 of 6" in note.message


@pytest.mark.bad_input("C2")
def test_uneven_spacing_is_refused_and_rounding_is_not(tmp_path: Path) -> None:
    write_series(tmp_path / "uneven", 5, ImagePositionPatient=lambda n: [0, 0, 2.5 * n + 0.3 * (n == 2)])
    write_series(tmp_path / "rounded", 5, ImagePositionPatient=lambda n: [0, 0, round(0.625 * n, 1)])

    assert refusal(tmp_path / "uneven").code == "series.gap"
    np.testing.assert_allclose(read_volume(tmp_path / "rounded").spacing_mm[2], 0.625, atol=0.01)


@pytest.mark.bad_input("C3")
def test_exact_copies_are_dropped_with_a_count(tmp_path: Path) -> None:
    paths = write_series(tmp_path, 4)
    for n in (1, 2):
        (tmp_path / f"copy{n}").write_bytes(paths[n].read_bytes())

    volume = read_volume(tmp_path)

    assert volume.shape == (8, 6, 4)
    assert any(note.code == "series.duplicate" and note.message.startswith("2 exact") for note in volume.notes)


@pytest.mark.bad_input("C3")
def test_the_same_pixels_under_a_new_uid_are_dropped(tmp_path: Path) -> None:
    write_series(tmp_path, 4)
    write(make_slice(2, SOPInstanceUID=generate_uid()), tmp_path / "again")

    volume = read_volume(tmp_path)

    assert volume.shape == (8, 6, 4)
    assert any(note.code == "series.duplicate" and note.message.startswith("1 exact") for note in volume.notes)


@pytest.mark.bad_input("C3")
def test_one_uid_with_other_pixels_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, 4)
    write(make_slice(2, pixels=slice_pixels(9)), tmp_path / "other")

    assert refusal(tmp_path).code == "series.duplicate"


@pytest.mark.bad_input("C3")
def test_two_images_at_one_place_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, 4)
    write(make_slice(2, pixels=slice_pixels(9), SOPInstanceUID=generate_uid()), tmp_path / "other")

    assert refusal(tmp_path).code == "series.duplicate"


@pytest.mark.bad_input("C4")
@pytest.mark.parametrize(
    "other",
    [
        {"pixels": slice_pixels(7, 10, 10)},
        {"PixelSpacing": [0.6, 0.6]},
        {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
    ],
)
def test_another_size_spacing_or_orientation_is_split_off(tmp_path: Path, other: dict[str, Any]) -> None:
    write_series(tmp_path, 5)
    write(make_slice(7, **other), tmp_path / "odd")

    series = all_series(tmp_path)
    volume = read_volume(tmp_path)

    assert sorted(len(one.slices) for one in series) == [1, 5]
    assert volume.shape == (8, 6, 5)
    assert "series.mixed" in {note.code for note in volume.notes}


@pytest.mark.bad_input("C4")
def test_two_transfer_syntaxes_in_one_series_make_one_volume(tmp_path: Path) -> None:
    write_series(tmp_path, 4)
    write(make_slice(4), tmp_path / "implicit", "1.2.840.10008.1.2")

    assert read_volume(tmp_path).shape == (8, 6, 5)


@pytest.mark.bad_input("C5")
@pytest.mark.parametrize(
    ("tag", "values", "word"),
    [
        ("EchoNumbers", [1, 2], "echo 2"),
        ("EchoTime", [10, 90], "echo time 90"),
        ("DiffusionBValue", [0.0, 1000.0], "b-value 1000"),
        ("TemporalPositionIdentifier", [1, 2], "time point 2"),
        ("TriggerTime", [0, 40], "trigger time 40"),
        ("ImageType", [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]], "image type P"),
    ],
)
def test_several_volumes_in_one_series_are_split_by_what_differs(
    tmp_path: Path, tag: str, values: list, word: str
) -> None:
    for n in range(4):
        for which, value in enumerate(values):
            pixels = slice_pixels(10 * which + n)
            tags = {tag: value, "SOPInstanceUID": generate_uid(), "InstanceNumber": 2 * n + which}
            write(make_slice(n, modality="MR", pixels=pixels, **tags), tmp_path / f"{n}{which}")

    series = all_series(tmp_path)

    assert [len(one.slices) for one in series] == [4, 4]
    assert word in series[1].split_key
    for which, one in enumerate(series):
        volume = read_volume(one)
        assert volume.shape == (8, 6, 4)
        np.testing.assert_array_equal(volume.voxels[0, ::-1, ::-1, 2].T, slice_pixels(10 * which + 2))
        assert "series.multi_volume" in {note.code for note in volume.notes}


@pytest.mark.bad_input("C5")
def test_time_points_told_apart_by_number_alone_are_split_in_its_order(tmp_path: Path) -> None:
    for which in range(3):
        for n in range(4):
            tags = {"SOPInstanceUID": generate_uid(), "InstanceNumber": 4 * which + n}
            pixels = slice_pixels(10 * which + n)
            write(make_slice(n, modality="MR", pixels=pixels, **tags), tmp_path / f"{n}{which}")

    series = all_series(tmp_path)

    assert [one.split_key for one in series] == [f"time point {n} of 3" for n in (1, 2, 3)]
    for which, one in enumerate(series):
        np.testing.assert_array_equal(read_volume(one).voxels[0, ::-1, ::-1, 1].T, slice_pixels(10 * which + 1))


@pytest.mark.bad_input("C5")
def test_a_key_that_differs_in_every_slice_of_one_volume_splits_nothing(tmp_path: Path) -> None:
    write_series(tmp_path, 5, AcquisitionNumber=lambda n: n, AcquisitionTime=lambda n: f"1200{n:02d}")

    assert [len(one.slices) for one in all_series(tmp_path)] == [5]


ORIENTATIONS = {
    "axial": [1, 0, 0, 0, 1, 0],
    "coronal": [1, 0, 0, 0, 0, -1],
    "sagittal": [0, 1, 0, 0, 0, -1],
    "oblique": [0.96, 0.28, 0, -0.224, 0.768, 0.6],
}


@pytest.mark.bad_input("C6")
@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("direction", [1, -1])
def test_every_voxel_is_where_its_header_says(tmp_path: Path, name: str, direction: int) -> None:
    orientation = np.array(ORIENTATIONS[name], dtype=float)
    normal = np.cross(orientation[:3], orientation[3:])
    for n in range(4):
        corner = np.array([5.0, -7.0, 11.0]) + direction * 2.5 * n * normal
        tags = {"ImageOrientationPatient": orientation.tolist(), "ImagePositionPatient": corner.tolist()}
        write(make_slice(n, modality="MR", **tags, InstanceNumber=99 - n), tmp_path / f"{n}")

    volume = read_volume(tmp_path)

    inverse = np.linalg.inv(volume.affine_ras)
    for n in range(4):
        corner = np.array([5.0, -7.0, 11.0]) + direction * 2.5 * n * normal
        for row, column in ((0, 0), (5, 7), (2, 3)):
            world = corner + orientation[:3] * 0.75 * column + orientation[3:] * 0.5 * row
            index = inverse @ [-world[0], -world[1], world[2], 1]
            i, j, k = np.round(index[:3]).astype(int)
            np.testing.assert_allclose(index[:3], [i, j, k], atol=1e-3)
            assert volume.voxels[0, i, j, k] == slice_pixels(n)[row, column]
    assert np.abs(np.diag(volume.affine_ras[:3, :3])).min() > 0
    assert (np.diag(volume.affine_ras)[:3] > 0).all()


@pytest.mark.bad_input("C6")
def test_a_gantry_tilt_stays_in_the_affine_and_is_noted(tmp_path: Path) -> None:
    def position(n: int) -> list[float]:
        return [0, 0.75 * n, 2.4 * n]

    write_series(tmp_path, 5, ImagePositionPatient=position, GantryDetectorTilt="-17")

    volume = read_volume(tmp_path)

    for n in range(5):
        np.testing.assert_allclose(lps_corner(volume.affine_ras, (7, 5, n)), position(n), atol=0.01)
    note = next(note for note in volume.notes if note.code == "series.tilt")
    assert "17.4 degrees" in note.message


@pytest.mark.bad_input("C6")
def test_corners_that_leave_the_line_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, 5, ImagePositionPatient=lambda n: [3.0 * (n == 2), 0, 2.5 * n])

    assert refusal(tmp_path).code == "series.mixed"


@pytest.mark.bad_input("C6")
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1, 1), min_size=9, max_size=9),
    st.tuples(*[st.integers(1, 9)] * 3),
)
def test_reorienting_never_moves_a_voxel(numbers: list[float], shape: tuple[int, int, int]) -> None:
    rotation, _ = np.linalg.qr(np.array(numbers).reshape(3, 3) + 2 * np.eye(3))
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([0.5, 0.75, 2.5])

    canonical = to_canonical(affine, shape)

    corners = np.array([[0, 0, 0], [s - 1 for s in shape]], dtype=float)
    for corner in corners:
        moved = [shape[n] - 1 - corner[n] if canonical.is_flipped[n] else corner[n] for n in range(3)]
        output = [moved[axis] for axis in canonical.axis_of]
        np.testing.assert_allclose(canonical.affine_ras @ [*output, 1], affine @ [*corner, 1], atol=1e-9)


@pytest.mark.bad_input("C7")
@pytest.mark.parametrize(
    ("tag", "value", "name"),
    [
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0], "(0020,0037)"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "(0020,0037)"),
        ("ImageOrientationPatient", [1, 0, 0, 0, 1], "(0020,0037)"),
        ("PixelSpacing", [0, 1], "(0028,0030)"),
        ("PixelSpacing", [-1, 1], "(0028,0030)"),
        ("PixelSpacing", [1], "(0028,0030)"),
        ("ImagePositionPatient", [1, 2], "(0020,0032)"),
    ],
)
def test_impossible_geometry_is_refused_by_name(tmp_path: Path, tag: str, value: list, name: str) -> None:
    error = refusal(write(make_slice(**{tag: value}), tmp_path / "a.dcm"))

    assert error.code == "dicom.bad_value"
    assert name in str(error)


@pytest.mark.bad_input("C7")
@pytest.mark.parametrize("text", [b"nan", b"abc", b"inf"])
def test_positions_that_are_no_numbers_are_refused(tmp_path: Path, text: bytes) -> None:
    path = write(make_slice(ImagePositionPatient=["1.5", "2.5", "3.5"]), tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"1.5\\2.5\\3.5", b"1.5\\2.5\\" + text))

    assert "(0020,0032)" in str(refusal(path))


@pytest.mark.bad_input("C7")
def test_missing_pixel_spacing_is_refused_by_name(tmp_path: Path) -> None:
    write_series(tmp_path, 3, PixelSpacing=None)

    error = refusal(tmp_path)

    assert error.code == "dicom.missing_tag"
    assert "(0028,0030)" in str(error)


@pytest.mark.bad_input("C7")
def test_images_without_a_place_are_volumes_of_their_own(tmp_path: Path) -> None:
    write_series(tmp_path, 3, ImagePositionPatient=None, ImageOrientationPatient=None, PixelSpacing=None)

    series = all_series(tmp_path)

    assert [one.split_key for one in series] == [f"image {n} of 3" for n in (1, 2, 3)]
    volume = read_volume(series[1])
    np.testing.assert_array_equal(volume.affine_ras, np.eye(4))
    np.testing.assert_array_equal(volume.voxels[0, ::-1, ::-1, 0].T, slice_pixels(1).astype(np.float32) - 1024)
    assert any("does not say where it lies" in note.message for note in volume.notes)


def enhanced(frames: int, *, has_groups: bool = True, stacks: int = 1) -> Dataset:
    pixels = np.stack([slice_pixels(n) for n in range(frames)])
    dataset = make_slice(modality="MR", SOPClassUID=EnhancedMRImageStorage)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(dataset, keyword)
    dataset.NumberOfFrames, dataset.PixelData = frames, pixels.tobytes()
    if not has_groups:
        return dataset
    shared, measures = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 2.5
    shared.PixelMeasuresSequence = Sequence([measures])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    items = []
    for n in range(frames):
        item, position, orientation, content = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 2.5 * ((frames - 1 - n) // stacks)]
        orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        content.StackID = str(n % stacks + 1)
        transform = Dataset()
        transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = 2 + n, -n, "US"
        item.PlanePositionSequence, item.PlaneOrientationSequence = Sequence([position]), Sequence([orientation])
        item.FrameContentSequence = Sequence([content])
        item.PixelValueTransformationSequence = Sequence([transform])
        items.append(item)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(items)
    return dataset


@pytest.mark.bad_input("C8")
def test_an_enhanced_object_is_sorted_and_scaled_frame_by_frame(tmp_path: Path) -> None:
    path = write(enhanced(4), tmp_path / "a.dcm")

    volume = read_volume(path)

    assert volume.spacing_mm == pytest.approx((0.75, 0.5, 2.5))
    for k in range(4):
        n = 3 - k
        expected = slice_pixels(n).astype(np.float32) * (2 + n) - n
        np.testing.assert_array_equal(volume.voxels[0, ::-1, ::-1, k].T, expected)


@pytest.mark.bad_input("C8")
def test_several_stacks_of_an_enhanced_object_are_split(tmp_path: Path) -> None:
    path = write(enhanced(6, stacks=2), tmp_path / "a.dcm")

    series = all_series(path)

    assert [(one.split_key, len(one.slices)) for one in series] == [("stack 1", 3), ("stack 2", 3)]


@pytest.mark.bad_input("C8")
def test_frames_of_one_object_at_one_place_are_never_taken_for_copies(tmp_path: Path) -> None:
    dataset = enhanced(6, stacks=2)
    for item in dataset.PerFrameFunctionalGroupsSequence:
        del item.FrameContentSequence

    series = all_series(write(dataset, tmp_path / "a.dcm"))

    assert [[piece.frame.index for piece in one.slices] for one in series] == [[4, 2, 0], [5, 3, 1]]
    assert "series.multi_volume" in {note.code for note in read_volume(series[0]).notes}


@pytest.mark.bad_input("C8")
def test_an_enhanced_object_without_functional_groups_is_refused_by_name(tmp_path: Path) -> None:
    error = refusal(write(enhanced(4, has_groups=False), tmp_path / "a.dcm"))

    assert error.code == "dicom.missing_tag"
    assert "(5200,9230)" in str(error)


@pytest.mark.bad_input("C8")
def test_fewer_functional_groups_than_frames_are_refused(tmp_path: Path) -> None:
    dataset = enhanced(4)
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:3]

    assert refusal(write(dataset, tmp_path / "a.dcm")).code == "dicom.bad_value"


@pytest.mark.bad_input("C9")
def test_a_series_of_two_patients_is_refused_and_never_merged(tmp_path: Path) -> None:
    write_series(tmp_path, 4)
    write(make_slice(4, PatientID="P2"), tmp_path / "other")

    found = discover(tmp_path)

    assert sorted(study.patient_id for study in found.studies) == ["P1", "P2"]
    for study in found.studies:
        for series in study.series:
            assert refusal(series).code == "identity.conflict"


@pytest.mark.bad_input("D2")
def test_one_patient_id_with_two_birth_dates_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "a", 2, PatientBirthDate="19500101")
    other = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    write_series(tmp_path / "b", 2, PatientBirthDate="19600101", **other)

    assert {refusal(series).code for series in all_series(tmp_path)} == {"identity.conflict"}


@pytest.mark.bad_input("C9")
def test_one_series_uid_in_two_studies_is_two_series(tmp_path: Path) -> None:
    write_series(tmp_path / "a", 3)
    write_series(tmp_path / "b", 4, StudyInstanceUID=generate_uid())

    assert sorted(len(one.slices) for one in all_series(tmp_path)) == [3, 4]


@pytest.mark.bad_input("C10")
def test_of_several_series_the_thinner_original_is_chosen_and_the_rest_are_listed(tmp_path: Path) -> None:
    kinds = {
        1: {"SliceThickness": 5},
        2: {"SliceThickness": 1},
        3: {"SliceThickness": 0.5, "ImageType": ["DERIVED", "SECONDARY", "AXIAL"]},
    }
    for number, tags in kinds.items():
        own = {"SeriesInstanceUID": generate_uid(), "SeriesNumber": number, "SeriesDescription": "AX T1"}
        write_series(tmp_path / str(number), 3, modality="MR", **own, **tags)

    choice = choose_series(discover(tmp_path).studies[0], ["t1", "flair"])

    assert choice["t1"].header.series_number == 2
    assert choice.missing == ("flair",)
    codes = {note.code: note.message for note in choice.notes}
    assert "2 more fit: series 1" in codes["series.choice"]
    assert "flair" in codes["series.none"]


@pytest.mark.bad_input("C10")
def test_a_folder_of_two_series_is_refused_as_one_volume(tmp_path: Path) -> None:
    write_series(tmp_path / "a", 2)
    write_series(tmp_path / "b", 2, SeriesInstanceUID=generate_uid())

    assert refusal(tmp_path).code == "series.choice"


@pytest.mark.bad_input("C11")
def test_series_are_grouped_by_uid_over_deep_folders_and_mixed_patients(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for patient in range(3):
        own = {
            "PatientID": f"P{patient}",
            "StudyInstanceUID": f"1.2.{patient}",
            "SeriesInstanceUID": f"1.2.{patient}.1",
        }
        for n in range(6):
            folder = tmp_path / "/".join(str(x) for x in rng.integers(0, 3, rng.integers(1, 7)))
            write(make_slice(n, **own, SOPInstanceUID=f"1.2.{patient}.1.{n}"), folder / f"{rng.integers(10**9)}")

    found = discover(tmp_path)

    assert [study.patient_id for study in found.studies] == ["P0", "P1", "P2"]
    assert all(len(study.series[0].slices) == 6 for study in found.studies)
    assert all(read_volume(study.series[0]).shape == (8, 6, 6) for study in found.studies)


@pytest.mark.bad_input("I8")
def test_the_answer_does_not_depend_on_workers(tmp_path: Path) -> None:
    write_series(tmp_path / "a", 5)
    write_series(tmp_path / "b", 4, SeriesInstanceUID=generate_uid())
    (tmp_path / "note.txt").write_text("text " * 40)

    assert discover(tmp_path, workers=0) == discover(tmp_path, workers=1) == discover(tmp_path, workers=2)
