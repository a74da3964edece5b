"""A text encoder adapted to the reports to learn from, by guessing hidden words; before anything else is learned."""

import copy
import logging
from collections.abc import Sequence

import torch

from medmm.encoders.text import TextEncoder
from medmm.encoders.text_training import learning_rate_groups, train_last_layers
from medmm.objectives.masked_language import MaskedLanguage
from pipelines.training.objectives import MaskedLanguage as MaskedLanguageSettings
from pipelines.training.trainer import mixed_seed

logger = logging.getLogger(__name__)


def adapt_text_encoder(
    encoder: TextEncoder, reports: Sequence[str], settings: MaskedLanguageSettings, seed: int
) -> TextEncoder:
    """Return a copy of an encoder whose last layers have learned to guess words of these reports.

    The same seed and reports give the same weights on a CPU, so that a resumed training needs no checkpoint of it.
    """
    torch.manual_seed(mixed_seed(seed))
    adapted = copy.deepcopy(encoder)
    train_last_layers(adapted, settings.layers)
    guess = MaskedLanguage(adapted)
    own = [*guess.transform.parameters(), guess.bias]
    groups = [*learning_rate_groups(adapted, settings.learning_rate), {"params": own, "lr": settings.learning_rate}]
    optimiser = torch.optim.AdamW(groups)
    generator = torch.Generator().manual_seed(mixed_seed(seed))
    adapted.network.train()
    for epoch in range(settings.epochs):
        total = 0.0
        for row in torch.randperm(len(reports), generator=generator).tolist():
            loss = guess.loss(reports[row], generator)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach())
        logger.info("masked language, epoch %d: loss %.3f", epoch, total / max(1, len(reports)))
    adapted.network.requires_grad_(False)
    adapted.network.eval()
    return adapted
