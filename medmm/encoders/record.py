"""Record fields as tokens, one a field (FT-Transformer, Gorishniy et al. 2021); what is missing has no token."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from medmm.encoders.tokens import Tokens
from medmm.types import Record


class NumericField(BaseModel):
    """A number with the training set's mean and deviation, in the field's own unit."""

    # An open bound is infinite, which plain JSON cannot say.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")
    kind: Literal["numeric"] = "numeric"
    name: str
    mean: float
    deviation: float = Field(gt=0)
    minimum: float = float("-inf")
    maximum: float = float("inf")


class CategoricalField(BaseModel):
    """A category out of a fixed list; a value outside it counts as missing and is noted."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["categorical"] = "categorical"
    name: str
    categories: tuple[str, ...]


RecordField = Annotated[NumericField | CategoricalField, Field(discriminator="kind")]


def encode_record(record: Record, fields: Sequence[RecordField]) -> list[float]:
    """Return one number a field: standardised value, category index, or NaN where missing or impossible."""
    return [_encode(record.values.get(item.name), item) for item in fields]


def _encode(value: float | str | None, item: RecordField) -> float:
    if value is None:
        return float("nan")
    if isinstance(item, CategoricalField):
        text = str(value).strip().lower()
        return float(item.categories.index(text)) if text in item.categories else float("nan")
    try:
        number = float(value)
    except ValueError:
        return float("nan")
    if not item.minimum <= number <= item.maximum:
        return float("nan")
    return (number - item.mean) / item.deviation


class RecordTokens(nn.Module):
    """One token a field: value x direction + offset for numbers, a learned vector for categories."""

    def __init__(self, fields: Sequence[RecordField], width: int) -> None:
        super().__init__()
        self.is_numeric = [item.kind == "numeric" for item in fields]
        self.numeric = nn.ParameterList([nn.Parameter(torch.randn(width) * 0.3) for item in fields])
        self.offset = nn.Parameter(torch.zeros(len(fields), width))
        self.categories = nn.ModuleList(
            [nn.Embedding(len(item.categories) if item.kind == "categorical" else 1, width) for item in fields]
        )

    def forward(self, values: Float[Tensor, "B N"]) -> Tokens:
        known: Bool[Tensor, "B N"] = ~values.isnan()
        filled = values.nan_to_num(0.0)
        columns = []
        for index, is_numeric in enumerate(self.is_numeric):
            column = filled[:, index]
            content = column[:, None] * self.numeric[index] if is_numeric else self.categories[index](column.long())
            columns.append(content + self.offset[index])
        return Tokens(torch.stack(columns, dim=1), known)
