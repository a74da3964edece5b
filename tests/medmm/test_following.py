"""A task whose classes group the candidates of a ranking follows it."""

from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from medmm.checkpoint import load_checkpoint, save_model
from medmm.config import Labels, TaskSpec
from medmm.encoders.text import TextEncoder
from medmm.following import FollowedRanking
from medmm.inputs import CaseReader, collate
from medmm.model import MultimodalModel
from medmm.results import Explanation
from medmm.types import Case, Record, Report

CANDIDATES, WHICH, SORT = tiny.CANDIDATES, tiny.WHICH, tiny.SORT
FOLLOWING = SORT.model_copy(update={"follows": "which"})
KNOWN = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.0, 1.0]])
CASES = [
    Case(
        case_id="a", report=Report(text="Ring enhancement. No dural tail."), record=Record(values={"age_years": 40.0})
    ),
    Case(case_id="b", report=Report(text="A fall on the left."), record=Record(values={"sex": "M"})),
]


def ranking(known: torch.Tensor = KNOWN) -> FollowedRanking:
    followed = FollowedRanking(*known.shape)
    followed.classes_of.copy_(known)
    return followed


@pytest.fixture
def bert(tmp_path: Path) -> str:
    return str(tiny.write_tiny_bert(tmp_path / "bert"))


def build_reader(bert: str, *tasks: TaskSpec) -> CaseReader:
    """Front of a model of reports and records, with the same weights whatever its tasks follow."""
    graph = tiny.build_graph()
    config = tiny.build_config(graph=graph, text=bert, has_volume=False)
    model = tiny.build_model(config, Labels(tasks=tasks))
    for module in model.following.values():
        module.classes_of.copy_(KNOWN)
    return CaseReader(model, TextEncoder(bert, 64), graph)


def logits_of(reader: CaseReader, cases: list[Case] = CASES) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return dict(reader.model(collate([reader.read(case).features for case in cases], reader)).logits)


def explain(reader: CaseReader, case: Case) -> Explanation:
    encoder = reader.text_encoder
    assert isinstance(encoder, TextEncoder)
    diagnoser = tiny.build_diagnoser(reader.model, text_encoder=encoder, graph=reader.graph)
    return diagnoser.explain(case, diagnoser.diagnose(case), "fast")


def test_a_sure_ranking_says_what_is_known_of_its_first_candidate() -> None:
    said = ranking()(torch.tensor([[50.0, 0.0, 0.0], [0.0, 0.0, 50.0]]))

    torch.testing.assert_close(said.softmax(dim=1)[0], torch.tensor([0.9, 0.1]), atol=2e-3, rtol=0)
    assert said[1].softmax(dim=0)[1] > 0.99
    assert said.isfinite().all()


def test_nothing_is_said_before_anything_is_known() -> None:
    said = FollowedRanking(3, 2)(torch.randn(4, 3))

    torch.testing.assert_close(said, said[:, :1].expand_as(said))


@given(weight=st.floats(-50, 50), sharpness=st.floats(-50, 50))
def test_a_ranking_is_never_turned_round(weight: float, sharpness: float) -> None:
    followed = ranking()
    with torch.no_grad():
        followed.raw_weight.fill_(weight)
        followed.raw_sharpness.fill_(sharpness)

    for_tumour, for_injury = followed(torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 2.0]]))

    assert followed.weight >= 0
    assert for_tumour[0] - for_tumour[1] >= for_injury[0] - for_injury[1]


def test_learning_reaches_the_weight_the_sharpness_and_the_ranking() -> None:
    followed, ranked = ranking(), torch.tensor([[1.0, 0.5, 0.0]], requires_grad=True)

    followed(ranked).log_softmax(dim=1)[0, 1].backward()

    assert ranked.grad is not None and ranked.grad.abs().min() > 0
    assert followed.raw_weight.grad.abs() > 0
    assert followed.raw_sharpness.grad.abs() > 0


def test_a_ranking_that_is_not_followed_changes_no_bit(bert: str) -> None:
    alone, following = build_reader(bert, SORT, WHICH), build_reader(bert, FOLLOWING, WHICH)

    plain, followed = logits_of(alone), logits_of(following)

    assert not [name for name in alone.model.state_dict() if name.startswith("following")]
    assert torch.equal(plain["which"], followed["which"])
    said = following.model.following["sort"](followed["which"])
    assert torch.equal(followed["sort"], plain["sort"] + said)
    assert not torch.equal(followed["sort"], plain["sort"])


def test_the_order_of_the_tasks_does_not_matter(bert: str) -> None:
    first, last = build_reader(bert, FOLLOWING, WHICH), build_reader(bert, WHICH, FOLLOWING)
    last.model.load_state_dict(first.model.state_dict())

    torch.testing.assert_close(logits_of(first)["sort"], logits_of(last)["sort"])


def test_a_batch_gives_what_each_case_gives_alone(bert: str) -> None:
    reader = build_reader(bert, FOLLOWING, WHICH)

    together, alone = logits_of(reader)["sort"], [logits_of(reader, [case])["sort"] for case in CASES]

    torch.testing.assert_close(together, torch.cat(alone))


def test_what_is_known_comes_back_from_a_model_directory(bert: str, tmp_path: Path) -> None:
    reader = build_reader(bert, FOLLOWING, WHICH)

    save_model(tmp_path / "model", reader.model, metrics={}, card=tiny.CARD)
    loaded = load_checkpoint(tmp_path / "model").model

    assert loaded.labels.task("sort").follows == "which"
    assert torch.equal(loaded.following["sort"].classes_of, KNOWN)
    again = CaseReader(loaded, reader.text_encoder, reader.graph)
    assert torch.equal(logits_of(again)["sort"], logits_of(reader)["sort"])


def test_shares_still_add_up_and_the_ranking_is_named(bert: str) -> None:
    reader = build_reader(bert, FOLLOWING, WHICH)

    found = explain(reader, CASES[0])

    why, answer = found.tasks["sort"], found.diagnosis.tasks["sort"]
    total = why.baseline_probability + sum(part.share for part in why.modalities)
    assert total == pytest.approx(answer.confidence, abs=1e-6)
    assert why.ranking is not None and found.tasks["which"].ranking is None
    assert why.ranking.task == "which"
    logits, target = logits_of(reader, CASES[:1]), FOLLOWING.index(why.target)
    without = (logits["sort"] - reader.model.following["sort"](logits["which"])).softmax(dim=1)[0, target]
    assert why.ranking.attribution == pytest.approx(answer.confidence - float(without), abs=1e-6)
    assert sum(part.share for part in why.ranking.candidates) == pytest.approx(1.0)
    parts = reader.model.following["sort"].chances(logits["which"])[0] * KNOWN[:, target]
    assert why.ranking.candidates[0].name == CANDIDATES[int(parts.argmax())][0]


def test_words_are_followed_through_the_ranking(bert: str) -> None:
    reader = build_reader(bert, FOLLOWING, WHICH)
    before = explain(reader, CASES[0]).tasks["sort"]
    with torch.no_grad():
        reader.model.following["sort"].raw_weight.fill_(-50.0)

    after = explain(reader, CASES[0]).tasks["sort"]

    assert after.ranking is not None and after.ranking.attribution == pytest.approx(0.0, abs=1e-6)
    assert not np.allclose([word.value for word in before.words], [word.value for word in after.words], atol=1e-6)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ((FOLLOWING,), "Expected sort to follow a ranking task"),
        ((FOLLOWING.model_copy(update={"follows": "other"}), WHICH), "Expected sort to follow a ranking task"),
        ((FOLLOWING, WHICH.model_copy(update={"kind": "exclusive"})), "Expected sort to follow a ranking task"),
    ],
)
def test_only_a_ranking_that_is_there_can_be_followed(tasks: tuple[TaskSpec, ...], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Labels(tasks=tasks)


@pytest.mark.parametrize("change", [{"kind": "multilabel"}, {"kind": "ranking"}, {"source": "location"}])
def test_only_one_of_several_classes_can_follow(change: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="Expected a task that follows a ranking"):
        TaskSpec.model_validate(FOLLOWING.model_dump() | change)


def test_a_model_without_such_tasks_has_nothing_to_follow() -> None:
    model = tiny.build_model(tiny.build_config(), tiny.LABELS)

    assert isinstance(model, MultimodalModel) and len(model.following) == 0
