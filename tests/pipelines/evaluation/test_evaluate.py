"""`medmm evaluate`: what it writes, what it refuses, and that its figures follow from its own predictions."""

import json
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from evaluation_builders import N_CASES, Evaluated, phantom_rows, read_csv, write_manifest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from medmm.errors import UsageError
from pipelines.cli.app import app
from pipelines.evaluation.run import EvaluationJob, evaluate
from pipelines.statistics import measure_frame

KINDS = ["glioblastoma", "meningioma", "other"]


def metrics_of(evaluated: Evaluated) -> dict[str, Any]:
    return json.loads((evaluated.out / "metrics.json").read_text())


def details_of(evaluated: Evaluated) -> dict[str, Any]:
    return json.loads((evaluated.out / "details.json").read_text())


def page_of(evaluated: Evaluated) -> str:
    return (evaluated.out / "report.html").read_text(encoding="utf-8")


def job_of(evaluated: Evaluated, out: Path, **fields: object) -> EvaluationJob:
    job = EvaluationJob(
        model=str(evaluated.model), manifest=evaluated.manifest, output=out, device="cpu", n_resamples=100
    )
    return replace(job, **fields)


def test_every_answered_case_has_a_row_for_each_task(evaluated: Evaluated) -> None:
    rows = read_csv(evaluated.out / "predictions.csv")

    assert len(rows) == 3 * (N_CASES - 1)
    assert {row["task"] for row in rows} == {"kind", "grade", "side"}


def test_probabilities_of_a_row_add_up_to_one_over_its_own_classes(evaluated: Evaluated) -> None:
    table = pd.read_csv(evaluated.out / "predictions.csv")
    kind = table[table.task == "kind"]

    np.testing.assert_allclose(kind[KINDS].sum(axis=1), 1, atol=1e-5)
    assert kind[["left", "right"]].isna().all().all()


def test_metrics_follow_from_the_predictions_alone(evaluated: Evaluated) -> None:
    table = pd.read_csv(evaluated.out / "predictions.csv")
    side = table[table.task == "side"]

    auroc = metrics_of(evaluated)["side"]["auroc"]

    assert auroc["value"] == pytest.approx(roc_auc_score(side.truth == "right", side.right), abs=1e-4)
    again = measure_frame(side, ["left", "right"], patient="patient", n_resamples=100)
    assert auroc["value"] == pytest.approx(again.loc["auroc", "value"], abs=1e-4)


def test_metrics_have_a_value_an_interval_and_the_number_of_patients(evaluated: Evaluated) -> None:
    metrics = metrics_of(evaluated)

    assert set(metrics) == {"kind", "grade", "side", "lesion"}
    for table in metrics.values():
        for figure in table.values():
            assert set(figure) == {"value", "low", "high", "n"}
    assert metrics["kind"]["auroc"]["n"] == N_CASES - 2  # one label unknown, one case refused
    assert "quadratic_kappa" in metrics["grade"]
    assert "quadratic_kappa" not in metrics["kind"]


def test_a_case_that_cannot_be_read_is_listed_and_stops_nothing(evaluated: Evaluated) -> None:
    (row,) = read_csv(evaluated.out / "failures.csv")

    assert (row["case"], row["code"]) == ("case-3", "io.unreadable")
    assert evaluated.result.exit_code == 1


def test_a_trunk_that_marks_everything_has_the_overlap_of_the_whole_volume(evaluated: Evaluated) -> None:
    overlap = metrics_of(evaluated)["lesion"]

    assert 0 < overlap["dice_mean"]["value"] < 0.2
    assert overlap["volume_error_ml"]["value"] > 0


def test_controls_cover_every_subset_of_the_modalities(evaluated: Evaluated) -> None:
    names = [row["name"] for row in details_of(evaluated)["kind"]["modalities"]]

    assert names == ["volume", "record", "volume+record"]


def test_the_full_model_gains_nothing_over_itself(evaluated: Evaluated) -> None:
    full = details_of(evaluated)["kind"]["modalities"][-1]

    assert full["gain"] == {"value": 0, "low": 0, "high": 0, "n": N_CASES - 2, "p_value": 1}


def test_tasks_that_depend_on_the_volume_alone_have_no_modality_table(evaluated: Evaluated) -> None:
    assert details_of(evaluated)["side"]["modalities"] == []


def test_subgroups_are_those_of_the_record(evaluated: Evaluated) -> None:
    rows = details_of(evaluated)["side"]["subgroups"]

    assert {row["column"] for row in rows} == {"age", "sex", "site"}
    site = next(row for row in rows if row["column"] == "site" and row["value"] == "A")
    assert site["inside"]["n"] + site["outside"]["n"] == N_CASES - 1


def test_the_acquisition_of_equal_phantoms_tells_nothing_of_their_side(evaluated: Evaluated) -> None:
    row = details_of(evaluated)["side"]["acquisition"]

    assert row["score"]["low"] <= 0.6


def test_two_models_are_compared_on_the_same_cases(evaluated: Evaluated) -> None:
    comparison = details_of(evaluated)["side"]["comparison"]

    assert comparison["differences"]["auroc"]["n"] == N_CASES - 1
    assert 0 <= comparison["delong"]["p_value"] <= 1
    assert 0 <= comparison["mcnemar"]["p_value"] <= 1
    assert details_of(evaluated)["kind"]["comparison"]["delong"] is None  # three classes


@pytest.mark.slow
def test_an_earlier_evaluation_can_be_compared_with(evaluated: Evaluated, tmp_path: Path) -> None:
    evaluate(job_of(evaluated, tmp_path / "out", against=str(evaluated.out), has_controls=False))

    details = json.loads((tmp_path / "out" / "details.json").read_text())
    assert details["kind"]["comparison"]["differences"]["auroc"]["value"] == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_the_same_evaluation_twice_gives_the_same_files(evaluated: Evaluated, tmp_path: Path) -> None:
    evaluate(job_of(evaluated, tmp_path / "out", against=str(evaluated.other)))

    for name in ("predictions.csv", "metrics.json", "details.json", "report.html"):
        assert (tmp_path / "out" / name).read_bytes() == (evaluated.out / name).read_bytes()


class Tags(HTMLParser):
    """Counts elements and keeps what could load something."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href") and value != "data:,"]


def test_the_report_loads_nothing_and_runs_nothing(evaluated: Evaluated) -> None:
    page, tags = page_of(evaluated), Tags()
    tags.feed(page)

    assert "script-src 'none'" in unescape(page)
    assert "<script" not in page
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in tags.loaded)


def test_the_report_shows_foreign_text_as_text(evaluated: Evaluated) -> None:
    page = page_of(evaluated)

    assert "<b>of noise</b>" not in page
    assert "&lt;b&gt;of noise&lt;/b&gt;" in page


def test_the_report_has_plots_controls_failures_and_checklist(evaluated: Evaluated) -> None:
    page = page_of(evaluated)

    parts = (
        "ROC", "Decision curve", "Reliability", "Bland-Altman", "By modalities at hand", "acquisition alone",
        "Failures, the surest first", "not reported", "DeLong", "bootstrap resamples of patients",
    )  # fmt: skip
    for part in parts:
        assert part in page, part
    assert page.count("<polyline") >= 8


def test_no_patient_name_and_no_path_is_in_the_outputs(evaluated: Evaluated) -> None:
    for path in evaluated.out.iterdir():
        text = path.read_text(encoding="utf-8")
        assert "Jane Doe" not in text, path.name
        assert str(evaluated.folder) not in text, path.name


@pytest.mark.slow
def test_heatmaps_are_tested_where_asked(evaluated: Evaluated, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, phantom_rows(tmp_path, 2))

    evaluate(job_of(evaluated, tmp_path / "out", manifest=manifest, has_controls=False, has_explanations=True))

    rows = json.loads((tmp_path / "out" / "details.json").read_text())["kind"]["explanations"]
    assert {"lesion", "random"} <= {row["method"] for row in rows}
    assert all(0 <= row["figures"]["shown"]["value"] <= 1 for row in rows)
    assert "Heatmaps under test" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_label_that_is_no_class_is_refused_with_the_nearest_name(evaluated: Evaluated, tmp_path: Path) -> None:
    rows = phantom_rows(tmp_path, 2)
    rows[0]["label.kind"] = "glioblastma"
    manifest = write_manifest(tmp_path, rows)

    with pytest.raises(UsageError, match="Did you mean 'glioblastoma'") as caught:
        evaluate(job_of(evaluated, tmp_path / "out", manifest=manifest))

    assert caught.value.code == "config.table"


def test_a_manifest_without_labels_is_refused_before_work(evaluated: Evaluated, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, [{"case": "a", "volumes": "x.nii.gz"}])

    with pytest.raises(UsageError, match="no label of any task"):
        evaluate(job_of(evaluated, tmp_path / "out", manifest=manifest))


def test_a_mask_on_another_grid_refuses_its_case(evaluated: Evaluated, tmp_path: Path) -> None:
    rows = phantom_rows(tmp_path, 3)
    rows[0]["mask"] = "odd.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "odd.nii.gz")

    result = evaluate(job_of(evaluated, tmp_path / "out", manifest=write_manifest(tmp_path, rows)))

    assert result.n_refused == 1
    assert read_csv(tmp_path / "out" / "failures.csv")[0]["code"] == "model.mismatch"


@pytest.mark.bad_input("G6")
def test_an_output_folder_that_holds_something_else_is_refused(evaluated: Evaluated, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("years of work")

    with pytest.raises(UsageError, match="not of an evaluation") as caught:
        evaluate(job_of(evaluated, tmp_path / "out", may_overwrite=True))

    assert caught.value.code == "config.output"


@pytest.mark.bad_input("G6")
def test_an_earlier_evaluation_is_replaced_only_when_asked(evaluated: Evaluated) -> None:
    with pytest.raises(UsageError, match="earlier evaluation"):
        evaluate(job_of(evaluated, evaluated.out))


@pytest.mark.bad_input("E11")
def test_a_manifest_that_lacks_a_column_ends_with_exit_code_2(evaluated: Evaluated, tmp_path: Path) -> None:
    manifest = tmp_path / "bad.csv"
    manifest.write_text("case,label.kind\na,other\n", encoding="utf-8")

    result = CliRunner().invoke(
        app, ["evaluate", "--model", str(evaluated.model), "--manifest", str(manifest), "--out", str(tmp_path / "o")]
    )

    assert isinstance(result.exception, UsageError)
    assert result.exception.code == "config.table"
    assert not (tmp_path / "o").exists()


def test_the_command_prints_the_figures(evaluated: Evaluated, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, phantom_rows(tmp_path, 4))
    arguments = ["--model", str(evaluated.model), "--manifest", str(manifest), "--out", str(tmp_path / "o")]

    result = CliRunner().invoke(app, ["evaluate", *arguments, "--resamples", "100", "--no-controls", "--device", "cpu"])

    assert result.exit_code == 0
    assert "4 cases answered, 0 refused" in result.stdout
    assert "auroc" in result.stdout
