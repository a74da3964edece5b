"""Text encoders that learn: layers, adapters, the light one, and their way into a model directory."""

import importlib.util
import json
from pathlib import Path

import pytest
import tiny_models as tiny
import torch
from transformers import BertConfig, BertModel

from medmm.checkpoint import load_checkpoint, save_model
from medmm.config import Labels, TextSpec
from medmm.diagnose import load_model
from medmm.encoders.lstm_text import LstmConfig, LstmTextEncoder
from medmm.encoders.text import TextEncoder
from medmm.encoders.text_training import add_lora, learning_rate_groups, merge_lora, train_last_layers
from medmm.errors import UsageError
from medmm.types import Case, Report

TEXT = "Ring enhancement on the left. No dural tail."
HAS_PEFT = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="extra `lora` is not installed")


@pytest.fixture
def encoder(tmp_path: Path) -> TextEncoder:
    folder = tiny.write_tiny_bert(tmp_path / "bert")
    made = TextEncoder(str(folder), 64)
    made.network = BertModel(
        BertConfig(**{**made.network.config.to_dict(), "num_hidden_layers": 3})  # three layers, to tell them apart
    ).eval()
    return made.requires_grad_(False)


def vector(encoder: TextEncoder | LstmTextEncoder, text: str = TEXT) -> torch.Tensor:
    encoded = encoder.encode(text)
    return encoder.sentences(encoder.states(encoded), encoded)


def test_only_the_last_layers_learn(encoder: TextEncoder) -> None:
    train_last_layers(encoder, 1)

    learned = {name.split(".")[2] for name, value in encoder.network.named_parameters() if value.requires_grad}
    assert learned == {"2"}


def test_deeper_layers_learn_slower_and_frozen_ones_not(encoder: TextEncoder) -> None:
    train_last_layers(encoder, 4)

    groups = learning_rate_groups(encoder, 1e-3, decay=0.5)

    assert [group["lr"] for group in groups] == pytest.approx([1e-3, 5e-4, 2.5e-4, 1.25e-4])
    train_last_layers(encoder, 0)
    assert learning_rate_groups(encoder, 1e-3) == []


@HAS_PEFT
def test_adapters_alone_learn_and_merge_into_a_plain_encoder(encoder: TextEncoder, tmp_path: Path) -> None:
    before = vector(encoder).detach()
    add_lora(encoder, rank=2)
    torch.testing.assert_close(vector(encoder), before)  # adapters start at zero
    learned = [value for value in encoder.network.parameters() if value.requires_grad]
    assert sum(value.numel() for value in learned) == 3 * 2 * 2 * (16 + 16)
    optimiser = torch.optim.Adam(learned, lr=1e-2)

    for _ in range(5):
        optimiser.zero_grad()
        vector(encoder).square().sum().backward()
        optimiser.step()
    adapted = vector(encoder).detach()
    merge_lora(encoder)
    encoder.save(tmp_path / "saved")

    assert not torch.allclose(adapted, before, atol=1e-3)
    torch.testing.assert_close(vector(TextEncoder(str(tmp_path / "saved"), 64)), adapted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_light_encoder_learns_to_tell_a_denial() -> None:
    torch.manual_seed(0)
    encoder, head = LstmTextEncoder(LstmConfig(n_buckets=64, word_width=8, width=8)), torch.nn.Linear(8, 1)
    texts = [f"{start} {what} is seen" for start in ("no", "a") for what in ("mass", "bleed", "cyst", "tail")]
    truth = torch.tensor([0.0] * 4 + [1.0] * 4)
    optimiser = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.02)

    for _ in range(40):
        scores = head(torch.cat([vector(encoder, text) for text in texts])).squeeze(1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    assert ((scores > 0) == (truth > 0)).all()


def test_the_light_encoder_keeps_offsets_sentences_and_the_hidden_word() -> None:
    encoder = LstmTextEncoder(LstmConfig())

    encoded = encoder.encode("Ring, left. [MASK] tail")

    assert ["Ring, left. [MASK] tail"[start:end] for start, end in encoded.offsets[0].tolist()] == [
        *("Ring", ",", "left", ".", "[MASK]", "tail")
    ]
    assert encoded.n_sentences == 2
    assert int(encoded.ids[0, 4]) == encoder.config.n_buckets
    assert encoder.encode("").n_sentences == 0


@pytest.mark.parametrize("kind", ["transformer", "lstm"])
def test_an_own_text_encoder_travels_in_the_model_directory(kind: str, encoder: TextEncoder, tmp_path: Path) -> None:
    torch.manual_seed(0)
    own = encoder if kind == "transformer" else LstmTextEncoder(LstmConfig(width=tiny.TEXT_WIDTH)).eval()
    config = tiny.build_config(text="somewhere else", has_volume=False)
    model = tiny.build_model(config, Labels(tasks=(tiny.KIND,)))
    case = Case(case_id="a", report=Report(text=TEXT))
    expected = tiny.build_diagnoser(model, text_encoder=own).diagnose(case).tasks["kind"].probabilities  # type: ignore[arg-type]  # either

    save_model(tmp_path / "model", model, metrics={}, card=tiny.CARD, text_encoder=own)
    loaded = load_model(str(tmp_path / "model"), device="cpu")

    assert loaded.model.config.text == TextSpec(source="./text", window=64, width=tiny.TEXT_WIDTH)
    torch.testing.assert_close(
        torch.from_numpy(loaded.diagnose(case).tasks["kind"].probabilities), torch.from_numpy(expected)
    )
    explanation = loaded.explain(case, loaded.diagnose(case), "full")
    assert [word.text for word in explanation.tasks["kind"].words][:2] == ["Ring", "enhancement"]


def test_a_changed_file_of_the_own_encoder_is_refused(tmp_path: Path) -> None:
    own = LstmTextEncoder(LstmConfig(width=tiny.TEXT_WIDTH))
    model = tiny.build_model(tiny.build_config(text="x", has_volume=False), Labels(tasks=(tiny.KIND,)))
    save_model(tmp_path, model, metrics={}, card=tiny.CARD, text_encoder=own)
    config = json.loads((tmp_path / "text" / "lstm.json").read_text())
    (tmp_path / "text" / "lstm.json").write_text(json.dumps(config))

    with pytest.raises(UsageError, match=r"text/lstm\.json"):
        load_checkpoint(tmp_path)
