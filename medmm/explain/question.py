"""One answer of one case as a function of its volume: what every volume method and every test of a heatmap asks.

Text, record and the case's subgraph stay as they were read. Slices pass the trunk independently but for their
neighbours, so a changed volume is looked at again only where it changed.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medmm.config import TaskSpec
from medmm.encoders.slice_unet import SliceUNet, TrunkOutput, look, with_mirrored, with_neighbours, without_mirrored
from medmm.encoders.volume import head_mask, summarise
from medmm.explain.gradients import margin
from medmm.heads import probabilities
from medmm.inputs import CaseReader, CaseView, collate
from medmm.model import ModelInputs

BLANK = 0.0  # the mean of the head


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeQuestion:
    """How much does the volume speak for class `target` of a task?

    `volume` (1, C, D, H, W) and `present` (1, C) are the network's input, `seen` is what the trunk made of it, `inputs`
    the case as the learned part reads it.
    """

    reader: CaseReader
    inputs: ModelInputs
    task: TaskSpec
    target: int
    volume: Float[Tensor, "1 C D H W"]
    present: Bool[Tensor, "1 C"]
    seen: TrunkOutput

    def margin(self, volume: Float[Tensor, "1 C D H W"]) -> Float[Tensor, " 1"]:
        """The answer's margin (see `medmm.explain.gradients`); differentiable."""
        return self.margin_of(look(self.reader.model.trunk, volume, self.present), volume)

    def margin_of(self, seen: TrunkOutput, volume: Float[Tensor, "1 C D H W"]) -> Float[Tensor, " 1"]:
        """The same for what the trunk saw."""
        return margin(self._logits(seen, volume), self.target, self.task.kind)

    @torch.no_grad()
    def chances(self, volume: Float[Tensor, "1 C D H W"]) -> dict[str, Tensor]:
        """Calibrated probabilities (L,) of every task for a changed volume."""
        inputs = self._inputs(self.look_again(volume), volume)
        logits = self.reader.model(inputs).logits
        return {
            task.name: probabilities(logits[task.name], task.kind, task.calibration.temperature)[0].double().cpu()
            for task in self.reader.model.labels.tasks
            if task.name in logits
        }

    def chance(self, volume: Float[Tensor, "1 C D H W"]) -> float:
        """The target's calibrated probability for a changed volume."""
        return float(self.chances(volume)[self.task.name][self.target])

    @torch.no_grad()
    def look_again(self, volume: Float[Tensor, "1 C D H W"]) -> TrunkOutput:
        """What the trunk sees in a changed volume; slices whose neighbourhood is the same are taken from `seen`."""
        differs = (volume != self.volume).flatten(3).any(dim=3).any(dim=1)[0]  # (D,)
        around = differs.clone()
        around[1:] |= differs[:-1]
        around[:-1] |= differs[1:]
        rows = around.nonzero().squeeze(1)
        if len(rows) == 0:
            return self.seen
        logits, features = look_at_slices(self.reader.model.trunk, volume, self.present, rows)
        region_logits, all_features = self.seen.region_logits.clone(), self.seen.features.clone()
        region_logits[0, :, rows] = logits.transpose(0, 1)
        all_features[0, :, rows] = features.transpose(0, 1)
        return TrunkOutput(region_logits=region_logits, features=all_features)

    def head(self) -> Bool[Tensor, "D H W"]:
        """Cells of the head."""
        return head_mask(self.volume, self.present)[0]

    def blank(self) -> Float[Tensor, "1 C D H W"]:
        """The volume with nothing in the head: every cell is the mean of the head, air stays air."""
        return torch.where(self.head(), torch.full_like(self.volume, BLANK), self.volume)

    def _inputs(self, seen: TrunkOutput, volume: Tensor) -> ModelInputs:
        return replace(self.inputs, volume=summarise(seen, volume, self.present))

    def _logits(self, seen: TrunkOutput, volume: Tensor) -> Tensor:
        return self.reader.model(self._inputs(seen, volume)).logits[self.task.name]


def ask(reader: CaseReader, view: CaseView, task: TaskSpec, target: int) -> VolumeQuestion | None:
    """Return the question for a case, or None where it has no volume."""
    if view.prepared is None or view.seen is None:
        return None
    device = next(reader.model.parameters()).device
    return VolumeQuestion(
        reader=reader,
        inputs=collate([view.features], reader),
        task=task,
        target=target,
        volume=torch.from_numpy(view.prepared.array)[None].to(device),
        present=torch.from_numpy(view.prepared.present)[None].to(device),
        seen=view.seen,
    )


def look_at_slices(
    trunk: SliceUNet, volume: Float[Tensor, "1 C D H W"], present: Bool[Tensor, "1 C"], rows: Tensor
) -> tuple[Float[Tensor, "N R H W"], Float[Tensor, "N F h w"]]:
    """Region logits and features of some slices, as `look` gives them for all."""
    stacks = with_neighbours(volume, present)[0, rows]
    return without_mirrored(*trunk(with_mirrored(stacks)))
