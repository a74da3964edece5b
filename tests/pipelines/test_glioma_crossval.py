"""Cross-validation of the glioma recipe: who teaches whom, and what the card says of simple rivals and of sites."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import build_graph

from kg import KnowledgeGraph
from medmm.encoders.volume import VolumeSummary, summary_widths
from medmm.inputs import CaseFeatures, CaseView
from medmm.model import MultimodalModel
from medmm.types import Case, Record
from pipelines.recipes.glioma_mri import what
from pipelines.recipes.glioma_mri.baselines import BASELINES, READERS, TISSUE, answer_by_baselines, answer_from_masks
from pipelines.recipes.glioma_mri.card import write_card
from pipelines.recipes.glioma_mri.crossval import ABLATIONS, NO_GRAPH, CrossValidation, LeftOutSites, parts_of
from pipelines.recipes.glioma_mri.data import ROLES, Patient, fold_of_patients, read_patients
from pipelines.recipes.glioma_mri.ship import measure
from pipelines.recipes.glioma_mri.spec import LABELS, build_config
from pipelines.recipes.glioma_mri.what import read_views
from pipelines.training.what import IMPOSSIBLE_LOGIT, UNKNOWN

N_PATIENTS = 60
LESION_WIDTH = summary_widths(0, len(ROLES))[0]


def patient(number: int) -> Patient:
    """Grade 3 is old, of the second site, and of tissue cluster 2."""
    is_high = number % 2 == 1
    return Patient(
        patient=f"P{number:02d}", site="AB"[number % 3 == 0], path=Path(), has=dict.fromkeys(ROLES, True),
        age=30.0 + 20 * is_high + number % 7, sex=("male", "female")[number % 4 > 1], side="left", lobe="frontal lobe",
        grade="G3" if is_high else "G2", histology="astrocytoma", coc2="yes" if is_high else "no",
        tissue={"CNCluster": "2" if is_high else "1"},
    )  # fmt: skip


def view(lesion: np.ndarray) -> CaseView:
    values = torch.from_numpy(lesion).float()[None]
    summary = VolumeSummary(
        lesion=values, slices=torch.zeros(1, 1, 2), slice_mask=torch.ones(1, 1, dtype=torch.bool),
        position=torch.zeros(1, 7), found=torch.ones(1, dtype=torch.bool),
    )  # fmt: skip
    return CaseView(case=Case(case_id="a", record=Record(values={})), features=CaseFeatures(summary=summary))


@pytest.fixture(scope="module")
def patients() -> list[Patient]:
    return [patient(number) for number in range(N_PATIENTS)]


@pytest.fixture(scope="module")
def targets(patients: list[Patient]) -> dict[str, np.ndarray]:
    grade = np.array([int(p.grade == "G3") for p in patients])
    histology = np.arange(N_PATIENTS) % 3
    return {"side": grade, "lobe": grade, "grade": grade, "histology": histology, "coc2": grade}


@pytest.fixture(scope="module")
def graph() -> KnowledgeGraph:
    return build_graph()


def results_of(
    patients: list[Patient], targets: dict[str, np.ndarray], signal: Callable[[str], float]
) -> CrossValidation:
    """Answers that know the truth as well as `signal` says of each variant."""
    rng = np.random.default_rng(0)

    def answers(strength: float) -> dict[str, np.ndarray]:
        found = {}
        for task in LABELS.tasks:
            noise = rng.standard_normal((N_PATIENTS, len(task.classes)))
            found[task.name] = noise + strength * np.eye(len(task.classes))[targets[task.name]]
        return found

    names = (*ABLATIONS, NO_GRAPH, *BASELINES, TISSUE, READERS)
    return CrossValidation(
        patients=patients, dice=np.full(N_PATIENTS, 0.8), targets=targets,
        logits={name: answers(signal(name)) for name in names},
        sites=LeftOutSites(
            patients=patients, targets=targets, logits={n: answers(signal(n)) for n in names}, dice=None
        ),
        found=np.ones(N_PATIENTS, bool), outlier=np.zeros(N_PATIENTS, bool),
    )  # fmt: skip


@pytest.mark.parametrize("has_site_trunks", [False, True])
def test_everyone_is_asked_once_in_each_scheme(patients: list[Patient], has_site_trunks: bool) -> None:
    parts = parts_of(patients, has_site_trunks)

    for scheme in ("folds", "sites"):
        asked = np.concatenate([part.test for part in parts if part.scheme == scheme])
        assert sorted(asked) == list(range(N_PATIENTS))


@pytest.mark.parametrize("has_site_trunks", [False, True])
def test_nobody_of_a_site_left_out_teaches(patients: list[Patient], has_site_trunks: bool) -> None:
    for part in parts_of(patients, has_site_trunks):
        teach, asked = ({patients[row].site for row in rows} for rows in (part.train, part.test))
        assert part.scheme == "folds" or not teach & asked
        assert not set(part.train) & set(part.test)


def test_without_trunks_of_sites_the_trunk_of_the_own_fold_looks(patients: list[Patient]) -> None:
    fold = fold_of_patients(patients)

    for part in parts_of(patients, has_site_trunks=False):
        assert {str(fold[row]) for row in part.test} == {part.trunk}


def test_each_baseline_learns_from_its_own_columns_only(
    patients: list[Patient], targets: dict[str, np.ndarray]
) -> None:
    rng = np.random.default_rng(0)
    lesions = rng.standard_normal((N_PATIENTS, LESION_WIDTH))
    lesions[:, 0] = 4 * targets["grade"]  # where it lies says the grade
    lesions[:, 7:] = 0  # intensities say nothing
    train, test = np.arange(0, 40), np.arange(40, N_PATIENTS)

    answers = answer_by_baselines(patients, [view(row) for row in lesions], targets, train, test)

    right = {name: (v["grade"].argmax(axis=1) == targets["grade"][test]).mean() for name, v in answers.items()}
    assert right["age and sex"] == right["position"] == right[TISSUE] == 1
    assert right["intensity"] == 0.5


def test_tissue_clusters_do_not_answer_the_cluster_made_from_them(
    patients: list[Patient], targets: dict[str, np.ndarray]
) -> None:
    views = [view(np.zeros(LESION_WIDTH))] * N_PATIENTS

    answers = answer_by_baselines(patients, views, targets, np.arange(40), np.arange(40, 60))

    assert "coc2" not in answers[TISSUE]
    assert "coc2" in answers["position"]


def test_a_baseline_learns_from_known_labels_only(patients: list[Patient], targets: dict[str, np.ndarray]) -> None:
    hidden = {name: values.copy() for name, values in targets.items()}
    hidden["grade"][20:40] = UNKNOWN
    views = [view(np.zeros(LESION_WIDTH))] * N_PATIENTS
    test = np.arange(40, 60)

    with_unknown = answer_by_baselines(patients, views, hidden, np.arange(40), test)
    without = answer_by_baselines(patients, views, targets, np.arange(20), test)

    np.testing.assert_allclose(with_unknown["age and sex"]["grade"], without["age and sex"]["grade"])


def test_readers_masks_answer_where_the_lesion_lies_and_no_place_that_nobody_taught() -> None:
    side = np.arange(N_PATIENTS) % 2
    positions = torch.zeros(N_PATIENTS, 7)
    positions[:, 0] = torch.from_numpy(2.0 * side - 1)  # x to the right
    targets = {"side": side, "lobe": side}
    train, test = np.arange(40), np.arange(40, N_PATIENTS)

    answers = answer_from_masks(positions, targets, train, test)[READERS]

    assert (answers["side"].argmax(axis=1) == side[test]).all()
    assert (answers["lobe"][:, 2:] == IMPOSSIBLE_LOGIT).all()
    assert abs(answers["lobe"][0, 0] - answers["lobe"][1, 0]) < 0.1  # lobes are the same on both sides


@pytest.mark.parametrize(
    ("model", "rival", "verdict"), [(4.0, 0.0, "better"), (0.0, 4.0, "worse"), (1.0, 1.0, "not distinguishable")]
)
def test_the_card_holds_the_model_against_the_best_baseline(
    patients: list[Patient], targets: dict[str, np.ndarray], graph: KnowledgeGraph,
    model: float, rival: float, verdict: str,
) -> None:  # fmt: skip
    results = results_of(patients, targets, lambda name: {"all": model, "intensity": rival}.get(name, 0.0))

    card = write_card(measure(results, LABELS, 10), graph, results)

    lines = [line for line in card.splitlines() if line.startswith("- grade: the best baseline is")]
    assert len(lines) == 1
    assert lines[0].endswith(f"the full model is {verdict}.")


def test_the_card_says_what_the_trunks_saw_of_a_site(
    patients: list[Patient], targets: dict[str, np.ndarray], graph: KnowledgeGraph
) -> None:
    results = results_of(patients, targets, lambda name: 1.0)
    dice = np.where([one.site == "A" for one in patients], 0.5, 0.9)
    own = replace(results, sites=replace(results.sites, dice=dice))

    card = write_card(measure(results, LABELS, 10), graph, results)
    other = write_card(measure(own, LABELS, 10), graph, own)

    assert "saw masks of other patients of the site" in card
    assert "saw masks of other patients of the site" not in other
    assert "| grade | auroc at A |" in card
    assert "| coc2 | auroc |" in card
    assert "| tumour | dice mean at A |" not in card
    assert "| tumour | dice mean at A | 0.500 |" in other
    assert "| tumour | dice mean at B | 0.900 |" in other


@pytest.mark.shared
def test_what_a_trunk_saw_is_kept_while_the_trunk_is_the_same(
    shared_data: Path, tmp_path: Path, graph: KnowledgeGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = read_patients(shared_data / "lgg")[:1]
    torch.manual_seed(0)
    weights = MultimodalModel(build_config(graph), LABELS).trunk.state_dict()
    weights["head.bias"] += 5  # marks everything
    save_file({name: value.contiguous() for name, value in weights.items()}, tmp_path / "trunk-0.safetensors")
    looks: list[str] = []
    plain = what.without_pixels

    def counted(seen: CaseView) -> CaseView:
        looks.append(seen.case.case_id)
        return plain(seen)

    monkeypatch.setattr(what, "without_pixels", counted)

    first, again = (read_views(tmp_path, "0", one, graph)[0] for _ in range(2))

    assert looks == [one[0].patient]
    torch.testing.assert_close(first.features.summary.lesion, again.features.summary.lesion)  # type: ignore[union-attr]
    assert first.evidence[0] == again.evidence[0]  # the region; the place is said by heads not fitted yet
    save_file({name: value.contiguous() + 1 for name, value in weights.items()}, tmp_path / "trunk-0.safetensors")
    read_views(tmp_path, "0", one, graph)
    assert len(looks) == 2
