"""A model directory is read back as it was written, or refused; nothing in it can run code."""

import hashlib
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models as tiny
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

import kg
from medmm.checkpoint import load_checkpoint, save_model
from medmm.config import ModelConfig
from medmm.diagnose import SHIPPED, load_model, shipped_models
from medmm.encoders.record import NumericField
from medmm.errors import UsageError

PARTS = ("config.json", "labels.json", "model.safetensors", "metrics.json", "README.md", "manifest.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model that reads volumes and records."""
    model = tiny.build_model(tiny.build_config())
    save_model(tmp_path / "tiny", model, metrics={"kind": {"auroc": 0.5}}, card=tiny.CARD)
    return tmp_path / "tiny"


def reseal(folder: Path) -> None:
    """Write the manifest anew, as somebody who changed the model on purpose would."""
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in PARTS[:-1]}
    (folder / "manifest.json").write_text(json.dumps(hashes), encoding="utf-8")


def refused(folder: Path, match: str) -> str:
    """The code with which the directory is refused."""
    with pytest.raises(UsageError, match=match) as caught:
        load_checkpoint(folder)
    return caught.value.code


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    reseal(folder)


def test_numbers_that_half_the_space_holds_exactly_take_half_the_space(tmp_path: Path) -> None:
    model = tiny.build_model(tiny.build_config())
    model.trunk.half().float()

    save_model(tmp_path, model, metrics={}, card=tiny.CARD)

    stored = load_file(tmp_path / "model.safetensors")
    loaded = load_checkpoint(tmp_path).model.state_dict()
    trunk = [name for name, value in stored.items() if name.startswith("trunk.") and value.is_floating_point()]
    assert trunk
    assert {stored[name].dtype for name in trunk} == {torch.float16}
    assert torch.float32 in {value.dtype for value in stored.values()}
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())
    assert all(value.dtype == model.state_dict()[name].dtype for name, value in loaded.items())


def test_a_loaded_model_answers_as_the_saved_one(folder: Path) -> None:
    saved, case = tiny.build_model(tiny.build_config()), tiny.build_case(1, text=None)

    loaded = load_checkpoint(folder)

    answers = [tiny.build_diagnoser(model).diagnose(case) for model in (saved, loaded.model)]
    for name, result in answers[0].tasks.items():
        assert result.probabilities.tolist() == answers[1].tasks[name].probabilities.tolist()
    assert (answers[0].regions["lesion"].mask == answers[1].regions["lesion"].mask).all()


def test_config_labels_card_and_metrics_come_back(folder: Path) -> None:
    loaded = load_checkpoint(folder)

    assert loaded.model.config == tiny.build_config()
    assert loaded.model.labels == tiny.LABELS
    assert loaded.card == tiny.CARD
    assert loaded.metrics == {"kind": {"auroc": 0.5}}


def test_a_record_field_without_bounds_comes_back(tmp_path: Path) -> None:
    field = NumericField(name="psa_ng_ml", mean=4.0, deviation=2.0)
    config = tiny.build_config(has_volume=False).model_copy(update={"record": (field,)})

    save_model(tmp_path, tiny.build_model(config), metrics={}, card=tiny.CARD)

    assert load_checkpoint(tmp_path).model.config.record == (field,)


def test_saving_the_same_model_twice_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    save_model(
        tmp_path / "twin", tiny.build_model(tiny.build_config()), metrics={"kind": {"auroc": 0.5}}, card=tiny.CARD
    )

    assert all((tmp_path / "twin" / name).read_bytes() == (folder / name).read_bytes() for name in PARTS)


@pytest.mark.bad_input("G2")
@pytest.mark.parametrize("name", PARTS[:-1])
def test_one_flipped_bit_is_noticed_in_every_part(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)

    assert refused(folder, f"Expected {name} to have the SHA-256") == "model.corrupt"


@pytest.mark.bad_input("G3")
@pytest.mark.parametrize("name", PARTS)
def test_a_missing_piece_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()

    assert refused(folder, f"missing: {name}") == "model.incomplete"


@pytest.mark.parametrize("content", ["", "[]", "{}", "not json"])
def test_a_manifest_that_vouches_for_nothing_is_refused(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_text(content, encoding="utf-8")

    assert refused(folder, r"manifest\.json") == "model.corrupt"


@pytest.mark.bad_input("G1")
@pytest.mark.parametrize("suffix", ["pt", "pth", "pkl", "joblib", "ckpt", "bin"])
def test_weights_that_can_execute_code_are_refused_as_unsafe(folder: Path, suffix: str) -> None:
    (folder / "model.safetensors").rename(folder / f"model.{suffix}")

    assert refused(folder, f"model.{suffix}, which can execute code") == "model.unsafe"


@pytest.mark.bad_input("G1")
def test_a_pickled_file_in_place_of_a_directory_is_refused_as_unsafe(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"\x80\x04.")

    with pytest.raises(UsageError, match="can execute code") as caught:
        load_model(str(tmp_path / "model.pt"))

    assert caught.value.code == "model.unsafe"


@pytest.mark.bad_input("G1")
def test_a_pickle_under_the_name_of_safetensors_is_not_run(folder: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    reseal(folder)

    assert refused(folder, "Expected safetensors") == "model.corrupt"
    assert not (tmp_path / "ran").exists()


@pytest.mark.bad_input("G1")
def test_loading_unpickles_nothing(folder: Path) -> None:
    seen: list[str] = []
    is_watching = [True]

    def watch(event: str, _: tuple[object, ...]) -> None:
        if is_watching[0] and event.startswith("pickle."):
            seen.append(event)

    sys.addaudithook(watch)  # cannot be removed again, so it is switched off
    load_checkpoint(folder)
    is_watching[0] = False

    assert seen == []


@pytest.mark.bad_input("G2")
def test_weights_cut_short_are_refused(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    reseal(folder)

    assert refused(folder, "Expected safetensors") == "model.corrupt"


@pytest.mark.bad_input("G2")
def test_an_extra_tensor_is_named(folder: Path) -> None:
    change_weights(folder, lambda weights: weights.update(intruder=torch.zeros(1)))

    assert refused(folder, "intruder is unknown in") == "model.corrupt"


@pytest.mark.bad_input("G2")
def test_a_missing_tensor_is_named(folder: Path) -> None:
    change_weights(folder, lambda weights: weights.pop("fusion.nothing"))

    assert refused(folder, "fusion.nothing is missing from") == "model.corrupt"


@pytest.mark.bad_input("G2")
def test_a_tensor_of_another_shape_is_named(folder: Path) -> None:
    change_weights(folder, lambda weights: weights.update({"fusion.nothing": torch.zeros(3)}))

    assert refused(folder, r"fusion.nothing as \(8,\)") == "model.corrupt"


@pytest.mark.bad_input("G2")
def test_a_tensor_of_another_type_is_named(folder: Path) -> None:
    change_weights(folder, lambda weights: weights.update({"fusion.nothing": torch.zeros(8).double()}))

    assert refused(folder, "float32 .got .* torch.float64") == "model.corrupt"


@pytest.mark.bad_input("G2")
def test_a_weight_that_is_no_number_is_named(folder: Path) -> None:
    change_weights(folder, lambda weights: weights["fusion.nothing"].fill_(float("nan")))

    assert refused(folder, "Expected numbers in fusion.nothing") == "model.corrupt"


@pytest.mark.bad_input("G5")
@pytest.mark.parametrize(("name", "place"), [("config.json", "volume"), ("labels.json", "tasks")])
def test_an_unknown_setting_is_named_with_its_place(folder: Path, name: str, place: str) -> None:
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    inner = content[place] if isinstance(content[place], dict) else content[place][0]
    inner["colour"] = "red"
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    reseal(folder)

    assert refused(folder, rf"at {place}.*colour") == "config.key"


@pytest.mark.bad_input("G3")
def test_a_directory_of_a_later_format_is_refused(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(content | {"format": 2}), encoding="utf-8")
    reseal(folder)

    assert refused(folder, "at format") == "model.mismatch"


@pytest.mark.parametrize("width", [7, 10])
def test_a_width_that_the_attention_heads_do_not_divide_is_refused(width: int) -> None:
    settings = tiny.build_config().model_dump() | {"width": width}

    with pytest.raises(ValidationError, match="width"):
        ModelConfig.model_validate(settings)


def test_two_classes_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="named once"):
        tiny.KIND.model_validate(tiny.KIND.model_dump() | {"classes": [{"name": "a", "title": "A"}] * 2})


@pytest.mark.parametrize("name", shipped_models())
def test_a_shipped_model_knows_the_default_graph(name: str) -> None:
    graph = load_checkpoint(SHIPPED / name).model.config.graph

    assert graph is not None
    assert graph.hash == kg.load_default().hash
