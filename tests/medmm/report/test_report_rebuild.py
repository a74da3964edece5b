"""Reports from `case.json` and the files beside it."""

import json
from pathlib import Path

import pytest
from report_examples import REPORT, make_explanation

from medmm.errors import InputError, UsageError
from medmm.report import read_case_report
from medmm.results import Explanation


@pytest.fixture
def folder(explanation: Explanation, tmp_path: Path) -> Path:
    """A finished case."""
    explanation.report().save(tmp_path / "case")
    return tmp_path / "case"


def _edit(folder: Path, change: dict[str, object]) -> None:
    file = folder / "case.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))


def test_rebuilt_case_writes_the_same_files(folder: Path, explanation: Explanation, tmp_path: Path) -> None:
    read_case_report(folder, explanation.case.volumes).save(tmp_path / "again")

    for path in folder.rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name


def test_without_volumes_the_pictures_of_the_page_are_used(folder: Path, explanation: Explanation) -> None:
    report = read_case_report(folder / "case.json")

    shown, real = report.volumes["flair"], explanation.case.volumes["flair"]
    assert shown.shape == real.shape
    difference = abs(shown.voxels - real.voxels)
    assert float(difference.mean()) < 0.05 * float(real.voxels.max())
    assert (shown.affine_ras == real.affine_ras).all()
    assert [note.code for note in report.content.notes].count("output.rebuilt") == 1


def test_language_can_be_changed(folder: Path, tmp_path: Path) -> None:
    read_case_report(folder).save(tmp_path / "zh", formats=["html", "txt"], lang="zh")

    assert "印象" in (tmp_path / "zh" / "report.html").read_text(encoding="utf-8")
    assert "印象" in (tmp_path / "zh" / "draft.txt").read_text(encoding="utf-8")


def test_rebuilding_twice_adds_one_note(folder: Path) -> None:
    read_case_report(folder).save(folder)

    notes = [note.code for note in read_case_report(folder).content.notes]

    assert notes.count("output.rebuilt") == 1


def test_words_of_the_report_stay_where_they_were_written(explanation: Explanation, tmp_path: Path) -> None:
    explanation.report().save(tmp_path, include_report_text=True)

    report = read_case_report(tmp_path)

    assert report.document(include_report_text=True).report_text == REPORT
    assert report.document().report_text is None


def test_missing_heatmaps_are_said_and_left_out(folder: Path, tmp_path: Path) -> None:
    (folder / "heatmaps" / "flair_side.nii.gz").unlink()

    report = read_case_report(folder)
    report.save(tmp_path / "again", formats=["html", "txt"])

    assert "heatmaps/flair_side.nii.gz" not in report.heatmaps
    assert "1 heatmaps or masks were not beside case.json" in " ".join(note.message for note in report.content.notes)
    assert "inside the marked Tumour" in report.draft_text()


@pytest.mark.bad_input("D1")
@pytest.mark.parametrize("name", ["../../secret.nii.gz", "/etc/passwd", "heatmaps/../x.nii.gz", "heatmaps/.x.nii.gz"])
def test_names_that_lead_elsewhere_are_not_followed(folder: Path, name: str) -> None:
    values = json.loads((folder / "case.json").read_text())
    values["regions"]["tumour"]["file"] = name
    _edit(folder, values)

    assert read_case_report(folder).masks == {}


def test_mask_of_another_case_is_refused(folder: Path) -> None:
    values = json.loads((folder / "case.json").read_text())
    values["regions"]["tumour"]["voxel_count"] = 3
    _edit(folder, values)

    with pytest.raises(InputError, match=r"masks/tumour.nii.gz") as caught:
        read_case_report(folder)

    assert caught.value.code == "io.changed"


def test_damaged_heatmap_is_refused(folder: Path) -> None:
    (folder / "heatmaps" / "t1_side.nii.gz").write_bytes(b"junk")

    with pytest.raises(InputError) as caught:
        read_case_report(folder)

    assert caught.value.code == "io.unreadable"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"schema_version": "9.9"}', "[" * 100_000])
def test_other_files_are_refused_with_what_to_do(folder: Path, content: str) -> None:
    (folder / "case.json").write_text(content)

    with pytest.raises(UsageError) as caught:
        read_case_report(folder)

    assert caught.value.code == "config.key"


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"readable case\.json"):
        read_case_report(tmp_path)


def test_page_that_was_edited_gives_no_pictures(folder: Path) -> None:
    page = folder / "report.html"
    page.write_text(page.read_text(encoding="utf-8").replace('"dims":[40,', '"dims":[41,'), encoding="utf-8")

    report = read_case_report(folder)

    assert report.volumes == {}
    assert report.content.tasks["side"].prediction == "right"


@pytest.mark.bad_input("D4")
def test_hostile_names_survive_the_way_there_and_back(tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script>"
    make_explanation(lambda text: text + hostile).report().save(tmp_path / "a")

    read_case_report(tmp_path / "a").save(tmp_path / "b", formats=["html"])

    page = (tmp_path / "b" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
