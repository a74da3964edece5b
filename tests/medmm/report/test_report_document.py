"""case.json: its schema, its numbers, what it must never hold, and what saving writes."""

import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_examples import REPORT, make_explanation

from medmm.errors import StopRun
from medmm.report import build_case_report, explanation_to_dict
from medmm.report.document import SCHEMA_PATH, CaseDocument, schema_json
from medmm.report.files import safe_name, write_atomic
from medmm.report.rounding import rounded
from medmm.results import Explanation
from medmm.types import Report

# A word of the report that no concept, title or text of ours holds.
REPORT_WORD = "xylophone"


def _saved(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_published_schema_is_that_of_the_models() -> None:
    assert SCHEMA_PATH.read_text(encoding="utf-8") == schema_json()


def test_saving_writes_every_format_under_its_own_name(explanation: Explanation, tmp_path: Path) -> None:
    paths = explanation.report().save(tmp_path)

    assert set(_saved(tmp_path)) == {
        "case.json",
        "report.html",
        "masks/tumour.nii.gz",
        *(f"heatmaps/{role}_{task}.nii.gz" for role in ("t1", "flair") for task in ("side", "grade")),
    }
    assert paths.json == tmp_path / "case.json"
    assert paths.masks["tumour"] == tmp_path / "masks" / "tumour.nii.gz"


def test_saving_twice_gives_the_same_bytes(explanation: Explanation, tmp_path: Path) -> None:
    explanation.report().save(tmp_path / "a")
    make_explanation().report().save(tmp_path / "b")

    assert _saved(tmp_path / "a") == _saved(tmp_path / "b")


def test_only_the_formats_asked_for_are_written(explanation: Explanation, tmp_path: Path) -> None:
    paths = explanation.report().save(tmp_path, formats=["json"])

    assert list(_saved(tmp_path)) == ["case.json"]
    assert paths.html is None


@pytest.mark.parametrize(("options", "message"), [({"formats": ["docx"]}, "docx"), ({"lang": "xx"}, "xx")])
def test_unknown_format_or_language_is_refused_before_writing(
    explanation: Explanation, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        explanation.report().save(tmp_path, **options)  # type: ignore[arg-type]

    assert _saved(tmp_path) == {}


def test_document_reads_back_as_written(explanation: Explanation) -> None:
    text = explanation.report().to_json()

    document = CaseDocument.model_validate_json(text)

    assert document.tasks["side"].confidence == 0.97
    assert document.tasks["grade"].abstained
    assert json.loads(text) == document.model_dump(mode="json")


def test_to_dict_is_what_the_file_holds(explanation: Explanation) -> None:
    assert explanation.to_dict() == json.loads(explanation.report().to_json())


@pytest.mark.bad_input("I2")
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_no_word_of_the_report_is_written_unasked(explanation: Explanation, tmp_path: Path, lang: str) -> None:
    explanation.report().save(tmp_path, lang=lang)

    for name, content in _saved(tmp_path).items():
        assert REPORT_WORD.encode() not in content, name


def test_report_text_is_written_where_asked_for(explanation: Explanation, tmp_path: Path) -> None:
    explanation.report().save(tmp_path, include_report_text=True)

    saved = _saved(tmp_path)
    assert json.loads(saved["case.json"])["report_text"] == REPORT
    assert f'<mark class="for-3">{REPORT_WORD}</mark>'.encode() in saved["report.html"]


def test_offsets_of_words_stay_without_their_text(explanation: Explanation) -> None:
    word = explanation_to_dict(explanation)["tasks"]["side"]["why"]["words"][0]

    assert REPORT[word["start"] : word["end"]] == REPORT_WORD
    assert word["text"] is None


def test_heading_that_could_hold_a_name_is_not_repeated() -> None:
    explained = make_explanation(lambda text: text)

    words = explanation_to_dict(explained)["tasks"]["side"]["why"]["words"]

    assert {word["section"] for word in words} == {"findings", ""}


@pytest.mark.bad_input("I7")
def test_heatmap_that_is_not_finite_gives_a_note_and_no_file(explanation: Explanation, tmp_path: Path) -> None:
    why = explanation.tasks["side"]
    broken = replace(why.volumes[0], values=np.full(why.volumes[0].values.shape, np.nan, dtype=np.float32))
    flat = replace(why.volumes[1], values=np.zeros_like(why.volumes[1].values))
    tasks = {**explanation.tasks, "side": replace(why, volumes=(broken, flat))}

    report = replace(explanation, tasks=tasks).report()
    report.save(tmp_path)

    assert not list((tmp_path / "heatmaps").glob("*_side*"))
    codes = [note.code for note in report.content.notes]
    assert codes.count("explain.failed") == 2
    assert report.content.tasks["side"].confidence == 0.97


def test_probability_that_is_not_finite_is_refused(explanation: Explanation) -> None:
    task = replace(explanation.diagnosis.tasks["side"], probabilities=np.array([np.nan, 0.97]))
    diagnosis = replace(explanation.diagnosis, tasks={"side": task})

    with pytest.raises(ValueError, match="finite"):
        replace(explanation, diagnosis=diagnosis).report()


def test_check_that_could_not_be_computed_has_no_value(explanation: Explanation) -> None:
    checks = explanation_to_dict(explanation)["tasks"]["side"]["why"]["checks"]

    assert [check["value"] for check in checks] == [0.7, None]


@pytest.mark.bad_input("I11")
def test_provenance_names_versions_hashes_device_and_run(explanation: Explanation) -> None:
    stamp = {"config_sha256": "e" * 64, "seed": 7, "started_utc": "2026-01-02T03:04:05Z"}

    origin = explanation.report().with_run(**stamp).document().provenance

    assert origin.model_dump()["weights_sha256"] == "a" * 64
    assert origin.graph_hash == "b" * 64
    assert origin.input_sha256 == {"t1": "c" * 64, "flair": "d" * 64}
    assert (origin.device, origin.precision, origin.seed) == ("cpu", "float32", 7)
    assert origin.config_sha256 == "e" * 64


@pytest.mark.bad_input("D7")
def test_half_characters_of_bad_decoding_become_question_marks(tmp_path: Path) -> None:
    explained = make_explanation(lambda text: text + "\udc80")
    explained = replace(explained, case=replace(explained.case, report=Report(text=REPORT + "\ud800")))

    explained.report().save(tmp_path, include_report_text=True)

    for name in ("case.json", "report.html"):
        assert "Tumour?" in (tmp_path / name).read_bytes().decode("utf-8")


def test_case_without_volumes_report_or_explanation_is_still_reported(tmp_path: Path) -> None:
    explained = make_explanation(regions={}, present={"volume": False, "text": False}, out_of_distribution=None)
    case = replace(explained.case, volumes={}, report=None)
    explained = replace(explained, case=case, tasks={}, mentions=(), similar=(), model_card={})

    explained.report().save(tmp_path)

    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "This answer was not explained." in page
    assert "No images to show." in page
    assert "No report was read." in page


@pytest.mark.bad_input("I8")
@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12))
def test_rounding_keeps_four_digits_and_is_stable(value: float) -> None:
    once = rounded(value)

    assert rounded(once) == once
    assert once == pytest.approx(value, rel=5.1e-4, abs=5.1e-7)


@given(st.text(max_size=200))
def test_safe_names_hold_nothing_that_a_path_could_follow(text: str) -> None:
    name = safe_name(text)

    assert 0 < len(name) <= 61
    assert all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in name)
    assert not name.startswith(".")


def test_safe_names_never_clash_even_by_case() -> None:
    taken: set[str] = set()

    names = [safe_name(text, taken=taken) for text in ("a/b", "a b", "A-b", "con")]

    assert names == ["a-b", "a-b-2", "A-b-3", "_con"]


def test_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()

    with pytest.raises(OSError, match="taken"):
        write_atomic(tmp_path / "taken", b"content")

    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.bad_input("H3")
@pytest.mark.parametrize("step", ["os.fsync", "tempfile.mkstemp"])
def test_full_disk_stops_the_run_and_keeps_the_old_file(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_atomic(tmp_path / "case.json", b"old")
    monkeypatch.setattr(step, fail)

    with pytest.raises(StopRun, match=r"case.json \(3 bytes needed\)") as caught:
        write_atomic(tmp_path / "case.json", b"new")

    assert caught.value.code == "disk.full"
    assert _saved(tmp_path) == {"case.json": b"old"}


def test_report_package_imports_without_heavy_libraries() -> None:
    code = (
        "import sys, medmm.report; print([m for m in ('torch', 'pandas', 'matplotlib', 'scipy') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
    assert build_case_report.__module__ == "medmm.report.content"
