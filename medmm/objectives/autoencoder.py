"""Learning without labels by giving back what came in: all modalities from all, a picture from itself and its text."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

FINE = 4  # parts of a cell along each axis


class MultimodalDecoder(nn.Module):
    """From one latent vector of a case, whatever made it, to the vectors of all modalities."""

    def __init__(self, widths: tuple[int, ...], latent_width: int) -> None:
        super().__init__()
        self.decoders = nn.ModuleList(
            [_perceptron(latent_width, width) if width else nn.Identity() for width in widths]
        )

    def forward(self, latent: Float[Tensor, "B Z"]) -> tuple[Tensor, ...]:
        return tuple(decoder(latent) for decoder in self.decoders)

    def loss(
        self, latent: Float[Tensor, "B Z"], vectors: tuple[Float[Tensor, "B _"], ...], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, ""]:
        """Mean squared error of everything that is present; a modality of width 0 has nothing to tell."""
        losses = []
        for index, truth in enumerate(vectors):
            is_here = present[:, index]
            if truth.shape[1] and is_here.any():
                losses.append(functional.mse_loss(self.decoders[index](latent[is_here]), truth[is_here]))
        return torch.stack(losses).mean() if losses else latent.sum() * 0


class MultimodalAutoencoder(nn.Module):
    """Vectors of all modalities to one latent vector of the case, and back to all of them, also the absent ones.

    Source: Ngiam et al., "Multimodal deep learning", ICML 2011. The latent is the mean over what is present, so any
    subset gives one.
    """

    def __init__(self, widths: tuple[int, ...], latent_width: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleList([_perceptron(width, latent_width) for width in widths])
        self.decoder = MultimodalDecoder(widths, latent_width)

    def encode(self, vectors: tuple[Float[Tensor, "B _"], ...], present: Bool[Tensor, "B M"]) -> Float[Tensor, "B Z"]:
        """One latent vector a case; 0 where nothing is present."""
        parts = []
        for index, (encoder, vector) in enumerate(zip(self.encoders, vectors, strict=True)):
            is_here = present[:, index : index + 1]
            parts.append(encoder(torch.where(is_here, vector, torch.zeros_like(vector))) * is_here)
        return torch.stack(parts).sum(dim=0) / present.sum(dim=1, keepdim=True).clamp_min(1)

    def decode(self, latent: Float[Tensor, "B Z"]) -> tuple[Tensor, ...]:
        """Every modality's vector as the latent tells it."""
        return self.decoder(latent)

    def loss(
        self,
        vectors: tuple[Float[Tensor, "B _"], ...],
        present: Bool[Tensor, "B M"],
        shown: Bool[Tensor, "B M"],
    ) -> Float[Tensor, ""]:
        """Mean squared error of everything that is present, told from what is shown of it."""
        return self.decoder.loss(self.encode(vectors, present & shown), vectors, present)


class CrossModalAutoencoder(nn.Module):
    """An image back from what a network made of a damaged copy of it, and its text.

    Each cell of the network's last map tells the `FINE` x `FINE` (x `FINE`) means of its part of the image. The text
    scales and shifts the features (FiLM: Perez et al., AAAI 2018); without text they stay as they are. It does so
    alike in all cells: it can say what is in the image, not where.
    """

    def __init__(self, map_width: int, text_width: int, n_dims: int, width: int = 64) -> None:
        super().__init__()
        self.n_dims = n_dims
        self.enter = nn.Linear(map_width, width)
        self.modulate = nn.Linear(text_width, 2 * width)
        nn.init.zeros_(self.modulate.bias)
        self.leave = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, FINE**n_dims))

    def forward(
        self, maps: Float[Tensor, "n F *s"], text: Float[Tensor, "n S"], has_text: Bool[Tensor, " n"]
    ) -> Float[Tensor, "n C K"]:
        cells = self.enter(maps.flatten(2).transpose(1, 2))  # (n, C, width)
        scale, shift = (self.modulate(text) * has_text[:, None])[:, None].chunk(2, dim=2)
        return self.leave(cells * (1 + scale) + shift)

    def truth(self, images: Float[Tensor, "n 1 *S"], maps: Float[Tensor, "n F *s"]) -> Float[Tensor, "n C K"]:
        """What the cells should tell of the undamaged images."""
        sizes = tuple(FINE * size for size in maps.shape[2:])
        pool = nn.AdaptiveAvgPool2d(sizes) if self.n_dims == 2 else nn.AdaptiveAvgPool3d(sizes)
        coarse = pool(images)[:, 0]
        split = coarse.reshape(len(coarse), *(part for size in maps.shape[2:] for part in (size, FINE)))
        outer, inner = range(1, 2 * self.n_dims, 2), range(2, 2 * self.n_dims + 1, 2)
        return split.permute(0, *outer, *inner).flatten(1, self.n_dims).flatten(2)


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
