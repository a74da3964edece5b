"""Learning without labels by giving back what came in: all modalities from all, a picture from itself and its text."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


class MultimodalAutoencoder(nn.Module):
    """Vectors of all modalities to one latent vector of the case, and back to all of them, also the absent ones.

    Source: Ngiam et al., "Multimodal deep learning", ICML 2011. The latent is the mean over what is present, so any
    subset gives one.
    """

    def __init__(self, widths: tuple[int, ...], latent_width: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleList([_perceptron(width, latent_width) for width in widths])
        self.decoders = nn.ModuleList([_perceptron(latent_width, width) for width in widths])

    def encode(self, vectors: tuple[Float[Tensor, "B _"], ...], present: Bool[Tensor, "B M"]) -> Float[Tensor, "B Z"]:
        """One latent vector a case; 0 where nothing is present."""
        parts = []
        for index, (encoder, vector) in enumerate(zip(self.encoders, vectors, strict=True)):
            is_here = present[:, index : index + 1]
            parts.append(encoder(torch.where(is_here, vector, torch.zeros_like(vector))) * is_here)
        return torch.stack(parts).sum(dim=0) / present.sum(dim=1, keepdim=True).clamp_min(1)

    def decode(self, latent: Float[Tensor, "B Z"]) -> tuple[Tensor, ...]:
        """Every modality's vector as the latent tells it."""
        return tuple(decoder(latent) for decoder in self.decoders)

    def loss(
        self,
        vectors: tuple[Float[Tensor, "B _"], ...],
        present: Bool[Tensor, "B M"],
        shown: Bool[Tensor, "B M"],
    ) -> Float[Tensor, ""]:
        """Mean squared error of everything that is present, told from what is shown of it."""
        told = self.decode(self.encode(vectors, present & shown))
        losses = []
        for index, (one, truth) in enumerate(zip(told, vectors, strict=True)):
            is_here = present[:, index]
            if is_here.any():
                losses.append(functional.mse_loss(one[is_here], truth[is_here]))
        return torch.stack(losses).mean() if losses else told[0].sum() * 0


class CrossModalAutoencoder(nn.Module):
    """A picture (or slice) back from a damaged copy of it and its text.

    The text scales and shifts the features (FiLM: Perez et al., AAAI 2018); without text they stay as they are.
    """

    def __init__(self, n_channels: int, text_width: int, width: int = 16) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(n_channels, width, 3, stride=2, padding=1), nn.GELU())
        self.deeper = nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.GELU())
        self.modulate = nn.Linear(text_width, 4 * width)
        nn.init.zeros_(self.modulate.bias)
        self.widen = nn.Sequential(nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), nn.GELU())
        self.leave = nn.ConvTranspose2d(width, n_channels, 4, stride=2, padding=1)

    def forward(
        self, pictures: Float[Tensor, "B C H W"], text: Float[Tensor, "B S"], has_text: Bool[Tensor, " B"]
    ) -> Float[Tensor, "B C H W"]:
        deep = self.deeper(self.enter(pictures))
        scale, shift = (self.modulate(text) * has_text[:, None]).chunk(2, dim=1)
        return self.leave(self.widen(deep * (1 + scale[..., None, None]) + shift[..., None, None]))


def hide_patches(
    pictures: Float[Tensor, "B C H W"], share: float, generator: torch.Generator, patch: int = 8
) -> Float[Tensor, "B C H W"]:
    """Return the pictures with a share of their square patches set to 0 (He et al., masked autoencoders, CVPR 2022)."""
    batch, _, height, width = pictures.shape
    rows, columns = -(-height // patch), -(-width // patch)
    kept = (torch.rand(batch, 1, rows, columns, generator=generator) >= share).to(pictures)
    return pictures * kept.repeat_interleave(patch, 2).repeat_interleave(patch, 3)[..., :height, :width]


def _perceptron(width_in: int, width_out: int) -> nn.Sequential:
    hidden = max(width_in, width_out)
    return nn.Sequential(nn.Linear(width_in, hidden), nn.GELU(), nn.Linear(hidden, width_out))
