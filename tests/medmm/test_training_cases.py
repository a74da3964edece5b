"""Similar training cases: numbered, nearest first, kept in the model directory under its hashes."""

from pathlib import Path

import pytest
import tiny_models as tiny
import torch

from medmm.checkpoint import load_checkpoint, save_model
from medmm.config import Labels
from medmm.diagnose import Diagnoser, load_model
from medmm.errors import UsageError
from medmm.similar import FILE, TrainingCases, embed_training_cases


@pytest.fixture
def diagnoser() -> Diagnoser:
    return tiny.build_diagnoser(tiny.build_model(tiny.build_config()))


def training_cases(diagnoser: Diagnoser) -> TrainingCases:
    features = [diagnoser.reader.read(tiny.build_case(seed, text=None)).features for seed in range(6)]
    found = embed_training_cases(
        diagnoser.reader, features, [{"kind": f"kind {seed}", "side": ""} for seed in range(6)]
    )
    assert found is not None
    return found


def test_a_training_case_is_nearest_to_itself(diagnoser: Diagnoser) -> None:
    cases = training_cases(diagnoser)

    found = cases.nearest(cases.embeddings[3], count=3)

    assert [found[0].case_id, found[0].labels] == ["training-0004", {"kind": "kind 3"}]
    assert found[0].similarity == pytest.approx(1, abs=1e-5)
    assert [item.similarity for item in found] == sorted((item.similarity for item in found), reverse=True)


def test_embeddings_do_not_depend_on_how_many_cases_go_at_once(
    diagnoser: Diagnoser, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = training_cases(diagnoser)
    monkeypatch.setattr("medmm.similar._CASES_AT_ONCE", 4)

    parts = training_cases(diagnoser)

    torch.testing.assert_close(parts.embeddings, whole.embeddings)


def test_a_model_that_fuses_nothing_has_no_embeddings() -> None:
    reader = tiny.build_diagnoser(tiny.build_model(tiny.build_config(), Labels(tasks=(tiny.SIDE,)))).reader

    assert embed_training_cases(reader, [], []) is None


def test_a_model_directory_keeps_its_training_cases(diagnoser: Diagnoser, tmp_path: Path) -> None:
    cases = training_cases(diagnoser)
    save_model(tmp_path, diagnoser.model, metrics={}, card="# tiny", training_cases=cases)

    case = tiny.build_case(2, text=None)
    loaded = load_model(str(tmp_path), device="cpu")
    similar = loaded.explain(case, loaded.diagnose(case)).similar

    assert similar[0].case_id == "training-0003"
    assert len(similar) == 5


def test_a_model_without_training_cases_shows_none(diagnoser: Diagnoser, tmp_path: Path) -> None:
    save_model(tmp_path, diagnoser.model, metrics={}, card="# tiny", training_cases=training_cases(diagnoser))
    save_model(tmp_path, diagnoser.model, metrics={}, card="# tiny")

    case = tiny.build_case(2, text=None)
    loaded = load_model(str(tmp_path), device="cpu")

    assert loaded.explain(case, loaded.diagnose(case)).similar == ()


def test_changed_training_cases_are_refused(diagnoser: Diagnoser, tmp_path: Path) -> None:
    save_model(tmp_path, diagnoser.model, metrics={}, card="# tiny", training_cases=training_cases(diagnoser))
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-1])

    with pytest.raises(UsageError, match=f"Expected {FILE} to have the SHA-256"):
        load_checkpoint(tmp_path)


def test_every_embedding_needs_its_labels() -> None:
    with pytest.raises(ValueError, match="Expected one embedding a labelled case"):
        TrainingCases(embeddings=torch.zeros(2, 4), labels=({},))
