"""Word and sentence attributions: word pieces folded to the words and sentences of the report.

`gradient`: gradient x (state - mean training sentence) at the encoder's last states; it comes with the one backward
pass of all modalities. `integrated_gradients`: from a report of mask tokens to the report, at the encoder's embeddings,
so that what the encoder itself does with a word counts too.
"""

import re
from collections.abc import Iterable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from medmm.config import TaskSpec
from medmm.encoders.lstm_text import LstmTextEncoder
from medmm.encoders.text import Encoded, TextEncoder, sentence_spans
from medmm.explain.gradients import margin
from medmm.inputs import CaseReader
from medmm.model import ModelInputs
from medmm.results import SentenceAttribution, WordAttribution
from medmm.types import Report

STEPS = 16
_WORD = re.compile(r"[^\W_]+(?:[-'’/.][^\W_]+)*")


def integrated_pieces(
    reader: CaseReader, inputs: ModelInputs, encoded: Encoded, task: TaskSpec, target: int, steps: int = STEPS
) -> Float[Tensor, "W T"]:
    """Return what each word piece adds to the target's margin on the way from mask tokens (Sundararajan et al., 2017).

    The contributions add up to the difference between the margins of the report and of the masked report, up to the
    error of `steps` midpoints.
    """
    from captum.attr import IntegratedGradients

    encoder = reader.text_encoder
    if encoder is None:
        raise ValueError("Expected a model with a text encoder.")
    with torch.no_grad():
        full, blank = encoder.embed(encoded.ids), encoder.embed(masked_ids(encoder, encoded))

    def answer(embedded: Float[Tensor, "1 W T E"]) -> Float[Tensor, " 1"]:
        sentences = encoder.sentences(encoder.contextual(embedded[0], encoded), encoded)[None].to(inputs.present.device)
        return margin(reader.model(replace(inputs, text=sentences)).logits[task.name], target, task.kind)

    # All windows of a report are one example, so captum is asked about the embeddings, not about a layer.
    found = IntegratedGradients(answer).attribute(
        full[None], baselines=blank[None], n_steps=steps, method="riemann_middle", internal_batch_size=1
    )
    return found[0].detach().sum(dim=-1)


def masked_ids(encoder: TextEncoder | LstmTextEncoder, encoded: Encoded) -> Tensor:
    """The ids (W, T) with every piece of the text replaced by the mask token; special pieces stay."""
    return torch.where(encoded.sentence >= 0, encoder.mask_id, encoded.ids)


def pieces_to_words(pieces: Float[Tensor, "W T"], encoded: Encoded, report: Report) -> tuple[WordAttribution, ...]:
    """Return every word of the report with the sum of its pieces' contributions, in reading order.

    Args:
        pieces: Contributions of word pieces, in windows.
        encoded: The windows' offsets into the report.
        report: The text that the offsets count in.
    """
    spans = [match.span() for match in _WORD.finditer(report.text)]
    return tuple(
        WordAttribution(
            start=start, end=end, text=report.text[start:end], value=value, section=_section_of(report, start)
        )
        for (start, end), value in zip(spans, _sums(pieces, encoded, spans), strict=True)
    )


def pieces_to_sentences(
    pieces: Float[Tensor, "W T"], encoded: Encoded, report: Report
) -> tuple[SentenceAttribution, ...]:
    """Return every sentence of the report, as the encoder cuts it, with the sum of its pieces' contributions."""
    spans = sentence_spans(report.text)
    return tuple(
        SentenceAttribution(
            start=start, end=end, text=report.text[start:end], value=value, section=_section_of(report, start)
        )
        for (start, end), value in zip(spans, _sums(pieces, encoded, spans), strict=True)
    )


def mask_words(text: str, words: Iterable[WordAttribution], mask: str) -> str:
    """The text with some of its words replaced by the encoder's mask token."""
    for word in sorted(words, key=lambda item: -item.start):
        text = text[: word.start] + mask + text[word.end :]
    return text


def _sums(pieces: Tensor, encoded: Encoded, spans: list[tuple[int, int]]) -> list[float]:
    """The sum of the pieces that start in each span."""
    owner: dict[int, int] = {}
    for index, (start, end) in enumerate(spans):
        owner.update(dict.fromkeys(range(start, end), index))
    values = [0.0] * len(spans)
    for value, (start, end) in zip(pieces.flatten().tolist(), encoded.offsets.flatten(0, 1).tolist(), strict=True):
        if end > start and start in owner:
            values[owner[start]] += value
    return values


def _section_of(report: Report, position: int) -> str:
    return next((section.name for section in report.sections if section.start <= position < section.end), "")
