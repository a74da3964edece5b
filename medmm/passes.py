"""Several cases in one pass of a large network, by the memory that a pass may take.

Rows (slices or images) of all cases are laid end to end and cut into passes of one size; the last is filled up with
zeros. Networks look at each row by itself, and every pass has the same shape, so that an answer does not depend on
which cases came together.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

MIB = 2**20


@torch.no_grad()
def rows_that_fit(network: nn.Module, row: tuple[int, ...], budget_mib: float) -> int:
    """Return how many rows a pass of `budget_mib` has: at least one.

    A row is counted with the outputs of all weighted layers at once, as float32; inference keeps fewer of them.

    Args:
        network: Looks at rows; nothing is computed.
        row: Shape of one row, without the batch axis.
        budget_mib: Memory of a pass, in MiB.
    """
    shadow = copy.deepcopy(network).eval().to("meta")
    counts: list[int] = [0]

    def count(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            counts.append(output.numel())

    for module in shadow.modules():
        if any(parameter.ndim > 1 for parameter in module.parameters(recurse=False)):
            module.register_forward_hook(count)
    shadow(torch.empty(1, *row, device="meta"))
    return max(1, int(budget_mib * MIB / (4 * max(sum(counts), 1))))


def in_passes(
    look: Callable[[Tensor], tuple[Tensor, ...]], cases: Sequence[Tensor], rows_at_once: int
) -> list[tuple[Tensor, ...]]:
    """Return what `look` says of each case's rows (n, ...), computed in passes of exactly `rows_at_once` rows."""
    answers = [_padded(look, part, rows_at_once) for part in torch.cat(list(cases)).split(rows_at_once)]
    whole = [torch.cat(kind) for kind in zip(*answers, strict=True)]
    return list(zip(*(kind.split([len(case) for case in cases]) for kind in whole), strict=True))


def _padded(look: Callable[[Tensor], tuple[Tensor, ...]], rows: Tensor, size: int) -> tuple[Tensor, ...]:
    missing = size - len(rows)
    filled = torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])]) if missing else rows
    return tuple(answer[: len(rows)] for answer in look(filled))
