"""What is known of a ranking's candidates comes from the training cases, and from what is said of the candidates."""

from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
import torch
from scipy import sparse

from medmm.config import Labels
from medmm.encoders.text import TextEncoder
from medmm.inputs import CaseFeatures, CaseReader
from pipelines.training.following import chances_given, described, fit_following
from pipelines.training.what import WhatSettings, predict_logits, train_what

WHICH, SORT = tiny.WHICH, tiny.SORT.model_copy(update={"follows": "which"})
LABELS = Labels(tasks=(SORT, WHICH))


def read_candidates(reader: CaseReader) -> np.ndarray:
    return described(reader, WHICH).toarray()


@pytest.fixture
def reader() -> CaseReader:
    """Front of a model of records alone."""
    return CaseReader(tiny.build_model(tiny.build_config(has_volume=False), LABELS), None, None)


def test_a_candidate_with_cases_goes_by_them_and_the_guess_counts_as_one() -> None:
    alike = sparse.csr_matrix(np.zeros((2, 1)))

    chances = chances_given(alike, np.array([0, 0, 0, 1]), np.array([0, 0, 0, 1]), 2, c=1.0)

    np.testing.assert_allclose(chances, [[(3 + 0.75) / 4, 0.25 / 4], [0.75 / 2, (1 + 0.25) / 2]], atol=1e-3)


def test_a_candidate_without_a_case_goes_by_those_that_it_is_like() -> None:
    words = sparse.csr_matrix(np.eye(2)[[0, 1, 0]])

    chances = chances_given(words, np.array([0, 1, 2]), np.array([0, 1, -1]), 2, c=100.0)

    assert chances[2, 0] > 0.9
    np.testing.assert_allclose(chances.sum(axis=1), 1)


def test_nothing_known_leaves_every_class_as_likely() -> None:
    chances = chances_given(sparse.csr_matrix(np.eye(3)), np.array([0, -1]), np.array([-1, 1]), 4, c=1.0)

    np.testing.assert_allclose(chances, 0.25)


def test_candidates_are_described_by_what_the_model_has(tmp_path: Path) -> None:
    graph, bert = tiny.build_graph(), str(tiny.write_tiny_bert(tmp_path))
    with_graph = tiny.build_config(graph=graph, has_volume=False)
    with_both = tiny.build_config(graph=graph, text=bert, has_volume=False)

    words = read_candidates(CaseReader(tiny.build_model(tiny.build_config(has_volume=False), LABELS), None, None))
    said = read_candidates(CaseReader(tiny.build_model(with_graph, LABELS), None, graph))
    both = read_candidates(CaseReader(tiny.build_model(with_both, LABELS), TextEncoder(bert, 64), graph))

    assert said.shape != words.shape  # the graph says more than the name
    assert both.shape == (3, said.shape[1] + tiny.TEXT_WIDTH)
    np.testing.assert_array_equal(both[:, tiny.TEXT_WIDTH :], said)
    np.testing.assert_allclose(np.linalg.norm(both[:, : tiny.TEXT_WIDTH], axis=1), 1, rtol=1e-6)


def test_held_out_cases_do_not_tell_what_is_known(reader: CaseReader) -> None:
    features = [CaseFeatures(record=(row % 5 - 2.0, row % 2)) for row in range(20)]
    rng = np.random.default_rng(0)
    targets = {"which": rng.integers(3, size=20), "sort": rng.integers(2, size=20)}
    other = {name: np.concatenate([values[:14], 1 - values[14:] % 2]) for name, values in targets.items()}
    settings = WhatSettings(epochs=1, batch_size=4)

    def known(labels: dict[str, np.ndarray]) -> torch.Tensor:
        train_what(reader, features, labels, settings, validation=range(14, 20))
        return reader.model.following["sort"].classes_of.clone()

    first = known(targets)

    assert torch.equal(first, known(other))
    expected = chances_given(described(reader, WHICH), targets["which"][:14], targets["sort"][:14], 2, c=8.0)
    np.testing.assert_allclose(first.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("follows", ["which", ""])
def test_a_class_that_no_input_shows_is_told_from_the_ranking(follows: str) -> None:
    labels = Labels(tasks=(SORT.model_copy(update={"follows": follows}), WHICH))
    reader = CaseReader(tiny.build_model(tiny.build_config(has_volume=False), labels), None, None)
    which = np.random.default_rng(0).integers(3, size=120)
    sort = np.where(which == 2, 1, 0)
    is_asked = np.arange(120) < 30  # of these both labels are known, but the records are all alike
    records = [(9.0 if same else float(number), 0.0) for number, same in zip(which, is_asked, strict=True)]
    features = [CaseFeatures(record=record) for record in records]
    settings = WhatSettings(epochs=40, batch_size=16, learning_rate=1e-2, blank=0, modality_dropout=0)

    train_what(reader, features, {"which": which, "sort": np.where(is_asked, sort, -1)}, settings)

    answers = predict_logits(reader, features)["sort"].argmax(axis=1)
    is_right = (answers == sort)[~is_asked].mean() > 0.95
    assert is_right == bool(follows)


def test_training_without_labels_of_the_ranking_says_nothing(reader: CaseReader) -> None:
    fit_following(reader, {"which": np.full(4, -1), "sort": np.array([0, 1, 0, 1])})

    assert torch.equal(reader.model.following["sort"].classes_of, torch.full((3, 2), 0.5))


def test_a_task_that_follows_nothing_is_left_alone() -> None:
    labels = Labels(tasks=(SORT.model_copy(update={"follows": ""}), WHICH))
    plain = CaseReader(tiny.build_model(tiny.build_config(has_volume=False), labels), None, None)
    before = {name: value.clone() for name, value in plain.model.state_dict().items()}

    fit_following(plain, {"which": np.array([0, 1]), "sort": np.array([0, 1])})

    assert all(torch.equal(value, before[name]) for name, value in plain.model.state_dict().items())
