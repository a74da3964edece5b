"""Cases like this one: found by what a model makes of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
import torch
from typer.testing import CliRunner

from medmm.checkpoint import save_model
from medmm.config import Labels
from medmm.diagnose import Diagnoser
from medmm.encoders.text import TextEncoder
from medmm.errors import UsageError
from medmm.inputs import CaseReader
from medmm.types import Case, Report
from pipelines.cli.app import app
from pipelines.similar import SimilarityIndex, embed_case, read_index
from pipelines.training.objectives import Contrastive, ObjectiveLosses, Objectives
from pipelines.training.what import WhatSettings, train_what

LABELS = Labels(tasks=(tiny.KIND, tiny.GRADE))
TEXTS = ("Ring enhancement on the left.", "No dural tail.", "Dural tail on the right.", "")


@pytest.fixture(scope="module")
def diagnoser(tmp_path_factory: pytest.TempPathFactory) -> Diagnoser:
    graph, bert = tiny.build_graph(), str(tiny.write_tiny_bert(tmp_path_factory.mktemp("bert")))
    config = tiny.build_config(graph=graph, text=bert).model_copy(update={"joint_width": 4})
    return tiny.build_diagnoser(tiny.build_model(config, LABELS), text_encoder=TextEncoder(bert, 64), graph=graph)


@pytest.fixture(scope="module")
def index(diagnoser: Diagnoser) -> SimilarityIndex:
    return SimilarityIndex.build(
        diagnoser, [(case.case_id, embed_case(diagnoser, case), {"kind": "other"}) for case in cases()]
    )


def cases() -> list[Case]:
    found = [
        replace(tiny.build_case(seed, text=text or None), case_id=f"case-{seed}") for seed, text in enumerate(TEXTS)
    ]
    return [*found[:3], replace(found[3], volumes={})]


@pytest.mark.parametrize("by", ["fused", "image", "text", "graph"])
def test_a_case_is_most_like_itself(by: str, diagnoser: Diagnoser, index: SimilarityIndex) -> None:
    found = index.search(embed_case(diagnoser, cases()[0]), by)  # type: ignore[arg-type]  # parametrised

    assert found[0].case_id == "case-0"
    assert found[0].similarity == pytest.approx(1, abs=1e-5)
    assert [item.similarity for item in found] == sorted((item.similarity for item in found), reverse=True)
    assert found[0].labels == {"kind": "other"}


def test_cosines_are_those_of_all_pairs(diagnoser: Diagnoser, index: SimilarityIndex) -> None:
    vectors = index.vectors["fused"]

    found = index.search(embed_case(diagnoser, cases()[1]), "fused", top=9)

    expected = {f"case-{row}": float(vectors[row] @ vectors[1]) for row in range(4)}
    assert {item.case_id: pytest.approx(item.similarity, abs=1e-6) for item in found} == expected


def test_cases_without_what_is_compared_are_left_out(diagnoser: Diagnoser, index: SimilarityIndex) -> None:
    by_image = index.search(embed_case(diagnoser, cases()[0]), "image", top=9)

    assert {item.case_id for item in by_image} == {"case-0", "case-1", "case-2"}
    with pytest.raises(UsageError, match="with image to compare"):
        index.search(embed_case(diagnoser, cases()[3]), "image")


def test_a_denied_finding_counts_against(diagnoser: Diagnoser, index: SimilarityIndex) -> None:
    asked = embed_case(diagnoser, Case(case_id="q", report=Report(text="Dural tail.")))

    found = {item.case_id: item.similarity for item in index.search(asked, "graph", top=9)}

    assert found["case-2"] > 0 > found["case-1"]


def test_images_are_found_by_text_in_the_joint_space(diagnoser: Diagnoser, index: SimilarityIndex) -> None:
    query = embed_case(diagnoser, Case(case_id="q", report=Report(text=TEXTS[0])))

    found = index.search(query, "text", "image", top=9)

    expected = index.vectors["joint_image"] @ query.vectors["joint_text"]
    assert {item.case_id for item in found} == {"case-0", "case-1", "case-2"}
    assert found[0].similarity == pytest.approx(float(np.nanmax(expected)))


def test_without_a_joint_space_one_kind_does_not_find_another() -> None:
    plain = tiny.build_diagnoser(tiny.build_model(tiny.build_config(), LABELS))
    index = SimilarityIndex.build(plain, [("a", embed_case(plain, tiny.build_case(0)), {})])

    with pytest.raises(UsageError, match="a joint space of image and text"):
        index.search(embed_case(plain, tiny.build_case(0)), "image", "text")


def test_an_index_is_the_same_after_writing_and_knows_its_model(
    diagnoser: Diagnoser, index: SimilarityIndex, tmp_path: Path
) -> None:
    index.write(tmp_path)
    other = tiny.build_diagnoser(tiny.build_model(tiny.build_config(), LABELS, seed=1))
    other.loaded = replace(other.loaded, weights_sha256="1" * 64)

    again = read_index(tmp_path)

    assert again.about == index.about
    np.testing.assert_array_equal(again.vectors["fused"], index.vectors["fused"])
    again.check(diagnoser)
    with pytest.raises(UsageError, match="the model that the index was made with"):
        again.check(other)


def test_a_broken_index_is_refused(index: SimilarityIndex, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one is missing"):
        read_index(tmp_path)
    index.write(tmp_path)
    (tmp_path / "embeddings.safetensors").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="whole index"):
        read_index(tmp_path)


def test_the_command_builds_and_searches(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = tiny.build_model(tiny.build_config(has_volume=False), LABELS)
    save_model(tmp_path / "model", model, metrics={}, card=tiny.CARD)
    rows = "".join(f"c{age},x,{age},F,low\n" for age in (20, 50, 80))
    (tmp_path / "m.csv").write_text(f"case,report_text,record.age_years,record.sex,label.grade\n{rows}")
    options = ["--index", str(tmp_path / "index"), "--model", str(tmp_path / "model"), "--device", "cpu"]

    built = CliRunner().invoke(app, ["similar", str(tmp_path / "m.csv"), "--build", *options])
    found = CliRunner().invoke(app, ["similar", str(tmp_path / "m.csv"), "--top", "1", *options])

    assert (built.exit_code, found.exit_code) == (0, 0), built.output + found.output
    assert "Indexed 3 cases, 0 refused." in built.output
    assert "grade: low" in found.output
    assert [line.split()[:2] for line in found.output.splitlines()[1:]] == [[f"c{age}"] * 2 for age in (20, 50, 80)]


@pytest.mark.slow
def test_after_contrastive_training_a_text_finds_its_image(tmp_path: Path) -> None:
    """Left and right balls, and reports that say which; unseen cases are found across."""
    bert = str(tiny.write_tiny_bert(tmp_path))
    config = tiny.build_config(text=bert).model_copy(update={"joint_width": 8})
    model = tiny.build_model(config, LABELS)
    model.trunk.load_state_dict(tiny.train_tiny_trunk([tiny.build_phantom(seed) for seed in range(8)]).state_dict())
    reader = CaseReader(model.eval(), TextEncoder(bert, 64), None)
    cases = [
        replace(tiny.build_case(seed, text=f"Ring on the {side}.", is_left=side == "left"), case_id=f"{side}-{seed}")
        for seed in range(30)
        for side in ("left", "right")
    ]
    features = [reader.read(case).features for case in cases]
    targets = {"kind": np.full(len(cases), -1), "grade": np.full(len(cases), -1)}
    settings = WhatSettings(epochs=25, learning_rate=1e-2, modality_dropout=0.0, blank=0.0)
    known = {name: values[:40] for name, values in targets.items()}
    train_what(reader, features[:40], known, settings, objectives=Objectives(contrastive=Contrastive(weight=1.0)))
    diagnoser = tiny.build_diagnoser(model, text_encoder=reader.text_encoder)  # type: ignore[arg-type]  # it is one
    index = SimilarityIndex.build(diagnoser, [(case.case_id, embed_case(diagnoser, case), {}) for case in cases[40:]])

    found = {
        side: index.search(
            embed_case(diagnoser, Case(case_id="q", report=Report(text=f"Ring on the {side}."))), "text", "image", top=5
        )
        for side in ("left", "right")
    }

    shares = [np.mean([item.case_id.startswith(side) for item in items]) for side, items in found.items()]
    assert min(shares) >= 0.8


def test_a_contrastive_loss_needs_a_joint_space() -> None:
    reader = CaseReader(tiny.build_model(tiny.build_config(), LABELS), None, None)

    with pytest.raises(UsageError, match="joint_width is not set"):
        ObjectiveLosses(Objectives(contrastive=Contrastive()), reader.model)
