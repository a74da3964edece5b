"""The light text encoder: words by hash, a bidirectional LSTM, no vocabulary to ship and no transformer to run.

Same contract as `medmm.encoders.text.TextEncoder`, so that everything behind it is the same. It knows nothing before
training.
"""

import json
import re
import zlib
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from medmm.encoders.text import Encoded, mean_over_sentences, sentence_of

LSTM_CONFIG, LSTM_WEIGHTS = "lstm.json", "lstm.safetensors"
_WORD = re.compile(r"\w+|[^\w\s]")
MASK_WORD = "[MASK]"


class LstmConfig(BaseModel):
    """Sizes: buckets of the word hash, width of word vectors, width of the states (both directions together)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    n_buckets: int = Field(4096, ge=2)
    word_width: int = Field(64, ge=1)
    width: int = Field(64, ge=2, multiple_of=2)


class _Words:
    """What explanations ask of a tokenizer: the piece that stands for a hidden word."""

    mask_token = MASK_WORD


class LstmTextEncoder(nn.Module):
    """Words to contextual states to sentence vectors (Hochreiter and Schmidhuber 1997, both directions)."""

    def __init__(self, config: LstmConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = _Words()
        self.embed = nn.Embedding(config.n_buckets + 1, config.word_width)  # the last is the hidden word
        self.lstm = nn.LSTM(config.word_width, config.width // 2, batch_first=True, bidirectional=True)
        self.width = config.width

    def encode(self, text: str) -> Encoded:
        """Split a report into words with their offsets; one window, however long."""
        spans = [match.span() for match in re.finditer(rf"{re.escape(MASK_WORD)}|{_WORD.pattern}", text)] or [(0, 0)]
        offsets = torch.tensor([spans])
        ids = torch.tensor([[self._bucket(text[start:end]) for start, end in spans]])
        sentence = sentence_of(text, offsets)
        return Encoded(ids, torch.ones_like(ids), offsets, sentence, int(sentence.max()) + 1)

    def states(self, encoded: Encoded) -> Float[Tensor, "W T F"]:
        """Contextual states of the words."""
        return self.contextual(self.embed(encoded.ids), encoded)

    def contextual(self, embedded: Float[Tensor, "W T E"], encoded: Encoded) -> Float[Tensor, "W T F"]:
        """The states that vectors of words lead to."""
        return self.lstm(embedded)[0]

    @property
    def mask_id(self) -> int:
        """The bucket of a hidden word."""
        return self.config.n_buckets

    def sentences(self, states: Float[Tensor, "W T F"], encoded: Encoded) -> Float[Tensor, "N F"]:
        """One vector a sentence: the mean of its words' states."""
        return mean_over_sentences(states, encoded)

    def save(self, folder: Path) -> None:
        """Write sizes and weights."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LSTM_CONFIG).write_text(self.config.model_dump_json(indent=1) + "\n", encoding="utf-8")
        save_file(self.state_dict(), folder / LSTM_WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> "LstmTextEncoder":
        """Read what `save` wrote."""
        config = LstmConfig.model_validate(json.loads((folder / LSTM_CONFIG).read_text(encoding="utf-8")))
        encoder = cls(config)
        encoder.load_state_dict(load_file(folder / LSTM_WEIGHTS))
        return encoder.eval()

    def _bucket(self, word: str) -> int:
        return self.config.n_buckets if word == MASK_WORD else zlib.crc32(word.lower().encode()) % self.config.n_buckets
