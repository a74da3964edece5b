"""Pictures and texts in one space: two linear maps, drawn together over the training cases' own pairs.

InfoNCE (van den Oord et al., 2018; Radford et al., ICML 2021) with every text of a picture's case as a positive, since
captions of one case are often the same and findings belong to all of its pictures.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 128
_EPOCHS, _BATCH, _RATE, _DECAY, _TEMPERATURE = 25, 128, 1e-3, 0.3, 0.07
_PICTURE_DROPOUT, _TEXT_DROPOUT = 0.5, 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Maps of picture features (F, 128) and text vectors (T, 128) into the joint space, with their offsets (128,)."""

    picture: np.ndarray
    picture_bias: np.ndarray
    text: np.ndarray
    text_bias: np.ndarray

    def pictures(self, features: np.ndarray) -> np.ndarray:
        """Return unit vectors (P, 128)."""
        return _unit(features @ self.picture + self.picture_bias)

    def texts(self, vectors: np.ndarray) -> np.ndarray:
        """Return unit vectors (N, 128)."""
        return _unit(vectors @ self.text + self.text_bias)


def fit_pairing(pictures: np.ndarray, texts: np.ndarray, case: np.ndarray, *, seed: int = 0) -> Pairing:
    """Return the maps learned from P pictures.

    Args:
        pictures: (P, F) standardised features of each picture.
        texts: (P, K, T) vectors of K texts that belong to each picture.
        case: (P,) which case each picture is of.
        seed: Start of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    seen, said, owner = (torch.from_numpy(array) for array in (pictures, texts, case))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        picture, text = (
            nn.Linear(pictures.shape[-1], WIDTH),
            nn.Linear(texts.shape[-1], WIDTH),
        )
        batch = min(_BATCH, len(seen))
        steps = _EPOCHS * (len(seen) // batch)
        learned = [*picture.parameters(), *text.parameters()]
        optimiser = torch.optim.AdamW(learned, lr=_RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
        for _ in range(_EPOCHS):
            order = torch.randperm(len(seen), generator=generator)
            for start in range(0, len(seen) - batch + 1, batch):
                rows = order[start : start + batch]
                left = picture(functional.dropout(seen[rows], _PICTURE_DROPOUT))
                right = text(functional.dropout(_any_of(said[rows], generator), _TEXT_DROPOUT))
                optimiser.zero_grad()
                _loss(left, right, owner[rows]).backward()
                optimiser.step()
                schedule.step()
    learned_maps = (picture.weight.T, picture.bias, text.weight.T, text.bias)
    arrays = [value.detach().numpy() for value in learned_maps]
    return Pairing(picture=arrays[0], picture_bias=arrays[1], text=arrays[2], text_bias=arrays[3])


def _loss(left: Tensor, right: Tensor, case: Tensor) -> Tensor:
    logits = functional.normalize(left, dim=1) @ functional.normalize(right, dim=1).T / _TEMPERATURE
    positive = (case[:, None] == case[None]).float()
    positive = positive / positive.sum(dim=1, keepdim=True)
    return (functional.cross_entropy(logits, positive) + functional.cross_entropy(logits.T, positive)) / 2


def _any_of(rows: Tensor, generator: torch.Generator) -> Tensor:
    """One of the texts (B, K, T) of each row."""
    chosen = torch.randint(rows.shape[1], (len(rows),), generator=generator)
    return rows[torch.arange(len(rows)), chosen]


def _unit(rows: np.ndarray) -> np.ndarray:
    result: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return result
