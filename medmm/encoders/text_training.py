"""Which part of a text encoder learns, and how fast: freezing, layer-wise learning rates, low-rank adapters."""

from typing import Any

from torch import nn

from medmm.encoders.text import TextEncoder
from medmm.errors import UsageError


def train_last_layers(encoder: TextEncoder, n_layers: int) -> None:
    """Let the last layers learn and freeze the rest; 0 freezes everything, more than there are thaws all.

    Args:
        encoder: Changed in place.
        n_layers: Counted from the end; embeddings are the first.
    """
    parts = _parts(encoder)
    kept = parts[len(parts) - n_layers :] if n_layers else []
    encoder.network.requires_grad_(False)
    for part in kept:
        part.requires_grad_(True)


def learning_rate_groups(encoder: TextEncoder, learning_rate: float, decay: float = 0.9) -> list[dict[str, Any]]:
    """Return an optimiser's parameter groups: each layer learns `decay` times as fast as the one after it.

    Frozen parameters are left out. Source: Howard and Ruder, "ULMFiT" (discriminative fine-tuning), ACL 2018.
    """
    groups: list[dict[str, Any]] = []
    for depth, part in enumerate(reversed(_parts(encoder))):
        learned = [value for value in part.parameters() if value.requires_grad]
        if learned:
            groups.append({"params": learned, "lr": learning_rate * decay**depth})
    return groups


def add_lora(encoder: TextEncoder, rank: int = 8, alpha: int = 16, dropout: float = 0.0) -> None:
    """Put low-rank adapters beside the attention's queries and values; only they learn (Hu et al., ICLR 2022).

    Raises:
        UsageError: `model.incomplete` without the library peft (extra `lora`).
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise UsageError(
            "Expected the library peft (it is not installed).",
            code="model.incomplete",
            remedy="pip install 'medmm[lora]'",
        ) from error
    names = sorted(
        {name.rsplit(".", 1)[-1] for name, part in encoder.network.named_modules() if isinstance(part, nn.Linear)}
        & {"query", "value", "q_proj", "v_proj", "q_lin", "v_lin"}
    )
    settings = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names)
    encoder.network = get_peft_model(encoder.network, settings)  # type: ignore[assignment]  # it behaves as one


def merge_lora(encoder: TextEncoder) -> None:
    """Add the adapters to the weights, so that the encoder is a plain one again and can be saved."""
    encoder.network = encoder.network.merge_and_unload()  # type: ignore[operator]  # peft's model has it


def _parts(encoder: TextEncoder) -> list[nn.Module]:
    """Embeddings, then layers, first to last."""
    network = encoder.network
    embeddings = next(part for name, part in network.named_modules() if name.split(".")[-1] == "embeddings")
    layers = next(
        part
        for name, part in network.named_modules()
        if isinstance(part, nn.ModuleList) and name.split(".")[-1] in ("layer", "layers", "h", "block")
    )
    return [embeddings, *layers]
