"""A missing MR sequence from those present: a conditional GAN over slices, and how good what it makes is."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from monai.losses import PatchAdversarialLoss
from monai.losses.ssim_loss import SSIMLoss
from monai.networks.nets import BasicUNet, PatchDiscriminator
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class SynthesisLosses:
    """Of one step: the generator's, its L1 part alone, and the discriminator's."""

    generator: float
    l1: float
    discriminator: float


class SequenceSynthesis(nn.Module):
    """A U-Net that makes the slice, and a patch discriminator that sees the given slices beside it.

    Source: pix2pix, Isola et al., CVPR 2017, with least squares for the adversarial part. What it makes is a guess from
    the sequences that are there: an enhancement that none of them shows it cannot know.
    """

    def __init__(
        self,
        n_given: int,
        *,
        widths: tuple[int, int, int, int, int, int] = (16, 16, 32, 64, 64, 16),
        l1_weight: float = 100.0,
    ) -> None:
        super().__init__()
        self.generator = BasicUNet(
            spatial_dims=2, in_channels=n_given, out_channels=1, features=widths, norm="instance"
        )
        self.discriminator = PatchDiscriminator(
            spatial_dims=2, channels=widths[1], in_channels=n_given + 1, out_channels=1, num_layers_d=2, norm="INSTANCE"
        )
        self.l1_weight = l1_weight
        self.adversarial = PatchAdversarialLoss(criterion="least_squares")

    def forward(self, given: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 H W"]:
        return self.generator(given)

    def step(
        self,
        given: Float[Tensor, "B C H W"],
        truth: Float[Tensor, "B 1 H W"],
        optimisers: "Optimisers",
    ) -> SynthesisLosses:
        """Train both networks on one batch, the discriminator first."""
        made = self.generator(given)
        judged_real = self.discriminator(torch.cat([given, truth], dim=1))
        judged_made = self.discriminator(torch.cat([given, made.detach()], dim=1))
        discriminator = (self._verdict(judged_real, True, True) + self._verdict(judged_made, False, True)) / 2
        _descend(optimisers.discriminator, discriminator)
        l1 = functional.l1_loss(made, truth)
        fooled = self.discriminator(torch.cat([given, made], dim=1))
        generator = self._verdict(fooled, True, False) + self.l1_weight * l1
        _descend(optimisers.generator, generator)
        return SynthesisLosses(float(generator.detach()), float(l1.detach()), float(discriminator.detach()))

    def _verdict(self, judged: Sequence[Tensor], is_real: bool, for_discriminator: bool) -> Tensor:
        return self.adversarial(judged[-1:], target_is_real=is_real, for_discriminator=for_discriminator)


@dataclass(frozen=True, slots=True)
class Optimisers:
    """One for each network."""

    generator: torch.optim.Optimizer
    discriminator: torch.optim.Optimizer

    @classmethod
    def of(cls, synthesis: SequenceSynthesis, learning_rate: float = 2e-4) -> "Optimisers":
        """Adam with the momentum that GANs take."""
        parts = (synthesis.generator, synthesis.discriminator)
        return cls(*(torch.optim.Adam(part.parameters(), lr=learning_rate, betas=(0.5, 0.999)) for part in parts))


def psnr(made: Float[Tensor, "B 1 H W"], truth: Float[Tensor, "B 1 H W"]) -> Float[Tensor, " B"]:
    """Return the peak signal-to-noise ratio in dB, against the range of each true image; infinite where equal."""
    error = (made - truth).square().flatten(1).mean(dim=1)
    peak = truth.flatten(1).amax(dim=1) - truth.flatten(1).amin(dim=1)
    return 10 * torch.log10(peak.square() / error)


def ssim(made: Float[Tensor, "B 1 H W"], truth: Float[Tensor, "B 1 H W"]) -> Float[Tensor, " B"]:
    """Return structural similarity (Wang et al. 2004), against the range of each true image."""
    values = []
    for one, other in zip(made, truth, strict=True):
        spread = float(other.max() - other.min())
        values.append(1 - SSIMLoss(spatial_dims=2, data_range=spread)(one[None], other[None]))
    return torch.stack(values)


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
