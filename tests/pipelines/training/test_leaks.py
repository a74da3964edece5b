"""The leak guard finds what was planted, lets honest cases pass, and refuses unless told otherwise."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
from evaluation_builders import phantom_rows, write_manifest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from training_builders import RECIPE, write_recipe

from medmm.errors import UsageError
from medmm.synthetic.anatomy import build_phantom, render
from medmm.synthetic.plan import case_rng, plan_case
from medmm.types import Case, Report, Volume
from pipelines.manifest import ManifestRow
from pipelines.training.leaks import NEAR_IMAGE, find_leaks, fingerprint_of, picture_hash, shingles_of
from pipelines.training.run import TrainJob, train

TEXT = (
    "There is an irregular mass in the left frontal lobe with surrounding oedema and a midline shift of four "
    "millimetres; the ventricles are compressed and the basal cisterns remain open. After contrast the rim "
    "enhances while the centre stays dark on all sequences. Diffusion is restricted along the posterior margin "
    "only. There is no second lesion in either hemisphere, the brain stem or the cerebellum, and the major "
    "vessels show normal flow voids."
)


def row_of(case: str, patient: str = "", split: str = "", **labels: str) -> ManifestRow:
    return ManifestRow(case=case, patient=patient or case, split=split, labels=labels)


def kinds(rows: list[ManifestRow], cases: list[Case]) -> set[str]:
    prints = [fingerprint_of(case, row, tiny.LABELS.tasks) for row, case in zip(rows, cases, strict=True)]
    return {leak.kind for leak in find_leaks(rows, prints)}


def told(text: str, case_id: str = "x") -> Case:
    return Case(case_id=case_id, report=Report(text=text))


def head(index: int) -> np.ndarray:
    """A phantom head as the demo has them, (I, J, K)."""
    plan = plan_case(index, 0)
    voxels = render(build_phantom(plan, case_rng(index, 0, 1)), "flair", case_rng(index, 0, 2, 1))
    return np.asarray(voxels, dtype=np.float32)


def seen(voxels: np.ndarray) -> Case:
    return Case(case_id="x", volumes={"flair": Volume(voxels=voxels[None], affine_ras=np.eye(4), modality="MR")})


@pytest.mark.parametrize(("first", "second"), [("A-007", "a007"), ("0042", "42"), ("TCGA_01", "TCGA-01")])
def test_one_patient_under_two_spellings_is_found(first: str, second: str) -> None:
    assert kinds([row_of("1", first), row_of("2", second)], [told(""), told("")]) == {"patient"}


def test_different_patients_are_let_pass() -> None:
    assert kinds([row_of("1", "A1"), row_of("2", "A2")], [told(""), told("")]) == set()


def test_the_same_pixels_under_two_names_are_found() -> None:
    voxels = head(0)

    assert kinds([row_of("1"), row_of("2")], [seen(voxels), seen(voxels.copy())]) == {"volume"}


def test_a_patient_may_have_the_same_series_twice_in_one_split_but_not_in_two() -> None:
    voxels = head(0)
    cases = [seen(voxels), seen(voxels)]

    assert kinds([row_of("1", "P", "train"), row_of("2", "P", "train")], cases) == set()
    assert kinds([row_of("1", "P", "train"), row_of("2", "P", "test")], cases) == {"patient"}


def test_a_shrunken_brightened_copy_is_found() -> None:
    voxels = head(0)
    changed = ndimage.zoom(voxels, (0.75, 0.75, 1), order=1) * 1.3 + 5

    assert kinds([row_of("1"), row_of("2")], [seen(voxels), seen(changed)]) == {"image"}


@settings(max_examples=20, deadline=None)
@given(gain=st.floats(0.2, 5), offset=st.floats(-100, 100))
def test_brightness_and_contrast_do_not_hide_a_copy_for_all_values(gain: float, offset: float) -> None:
    voxels = HEAD

    assert (picture_hash(voxels) != picture_hash(voxels * gain + offset)).mean() < 0.02


HEAD = head(1)


@pytest.mark.shared
@pytest.mark.slow
def test_brains_of_78_patients_are_told_from_noisy_copies(shared_data: Path) -> None:
    hashes, copies = [], []
    for path in sorted((shared_data / "lgg" / "volumes").glob("*.npz")):
        with np.load(path) as arrays:
            voxels = arrays["image"][1].transpose(2, 1, 0).astype(np.float32)
        hashes.append(picture_hash(voxels))
        noise = np.random.default_rng(0).normal(0, 8, voxels.shape)
        copies.append(picture_hash(ndimage.zoom(voxels + noise, (0.75, 0.75, 1), order=1)))
    table, copied = np.stack(hashes), np.stack(copies)
    distance = (table[:, None] != table[None]).mean(axis=2)[np.triu_indices(len(table), 1)]

    assert len(table) == 78
    assert distance.min() > 1.4 * NEAR_IMAGE
    assert ((table != copied).mean(axis=1) < NEAR_IMAGE).mean() > 0.9


def test_a_report_with_a_few_words_changed_is_found() -> None:
    changed = TEXT.replace("four", "five")

    assert kinds([row_of("1"), row_of("2")], [told(TEXT), told(changed)]) == {"report"}


def test_reports_of_the_same_words_in_another_order_are_let_pass() -> None:
    words = TEXT.split()
    np.random.default_rng(0).shuffle(words)

    assert kinds([row_of("1"), row_of("2")], [told(TEXT), told(" ".join(words))]) == set()


def test_short_reports_are_too_common_to_compare() -> None:
    assert shingles_of("No acute intracranial abnormality.") == frozenset()


@pytest.mark.bad_input("E9")
def test_a_report_that_names_its_own_label_is_found() -> None:
    rows = [row_of("1", kind="glioblastoma"), row_of("2", kind="meningioma")]

    assert kinds(rows, [told("Typical GLIOBLASTOMA."), told("No glioblastoma.")]) == {"label"}
    assert kinds(rows[1:], [told("No glioblastoma.")]) == set()


@pytest.mark.bad_input("E9")
def test_training_refuses_reports_that_name_the_label_unless_told_otherwise(tmp_path: Path) -> None:
    rows = phantom_rows(tmp_path, 4)
    for row in rows:
        row["split"] = ""
    rows[0]["report_text"] = "Known glioblastoma."
    write_manifest(tmp_path, rows)
    job = TrainJob(recipe=write_recipe(tmp_path), output=tmp_path / "model", only_check=True)

    with pytest.raises(UsageError, match="its own label of kind") as caught:
        train(job)

    assert caught.value.code == "report.label_leak"
    assert "--allow-leak label" in caught.value.remedy
    assert train(replace(job, allow_leaks=("label",))).n_cases == 4


@pytest.mark.bad_input("E9")
def test_the_words_can_be_covered_instead(tmp_path: Path) -> None:
    rows = phantom_rows(tmp_path, 4)
    for row in rows:
        row["split"] = ""
    rows[0]["report_text"] = "Known glioblastoma."
    write_manifest(tmp_path, rows)
    recipe = write_recipe(tmp_path, RECIPE.replace("[leaks]", "[leaks]\nmask_label = true"))

    assert train(TrainJob(recipe=recipe, output=tmp_path / "model", only_check=True)).n_cases == 4


def test_a_test_case_copied_into_training_is_refused(tmp_path: Path) -> None:
    rows = phantom_rows(tmp_path, 5)
    for row in rows:
        row["split"], row["report_text"] = "train", ""
    rows[4] = rows[4] | {"split": "test", "volumes": rows[0]["volumes"]}
    write_manifest(tmp_path, rows)

    with pytest.raises(UsageError, match=r"volume \(first: case-0 and case-4"):
        train(TrainJob(recipe=write_recipe(tmp_path), output=tmp_path / "model", only_check=True))


def test_the_phantoms_of_the_demo_are_not_taken_for_copies() -> None:
    hashes = np.stack([picture_hash(head(index)) for index in range(8)])
    distance = (hashes[:, None] != hashes[None]).mean(axis=2)[np.triu_indices(8, 1)]

    assert distance.min() > NEAR_IMAGE
