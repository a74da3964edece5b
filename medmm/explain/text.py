"""Word attributions: word pieces folded to the words of the report."""

import re

from torch import Tensor

from medmm.encoders.text import Encoded
from medmm.results import WordAttribution
from medmm.types import Report

_WORD = re.compile(r"[^\W_]+(?:[-'’/.][^\W_]+)*")


def pieces_to_words(pieces: Tensor, encoded: Encoded, report: Report) -> tuple[WordAttribution, ...]:
    """Return every word of the report with the sum of its pieces' contributions, in reading order.

    Args:
        pieces: (W, T) contributions of word pieces, in windows.
        encoded: The windows' offsets into the report.
        report: The text that the offsets count in.
    """
    owner: dict[int, int] = {}
    spans = [match.span() for match in _WORD.finditer(report.text)]
    for index, (start, end) in enumerate(spans):
        owner.update(dict.fromkeys(range(start, end), index))
    values = [0.0] * len(spans)
    for value, (start, end) in zip(pieces.flatten().tolist(), encoded.offsets.flatten(0, 1).tolist(), strict=True):
        if end > start and start in owner:
            values[owner[start]] += value
    return tuple(
        WordAttribution(
            start=start, end=end, text=report.text[start:end], value=value, section=_section_of(report, start)
        )
        for (start, end), value in zip(spans, values, strict=True)
    )


def _section_of(report: Report, position: int) -> str:
    return next((section.name for section in report.sections if section.start <= position < section.end), "")
