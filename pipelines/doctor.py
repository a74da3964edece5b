"""What an installation has and lacks. Loads what it reports on, so it takes some seconds."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import medmm
from medmm.errors import UsageError

LIBRARIES = (
    "torch", "monai", "torch-geometric", "pydicom", "nibabel", "networkx", "scikit-learn", "numpy",
    "scipy", "pandas", "transformers", "safetensors", "lightning", "pydantic", "typer", "rich", "jinja2",
    "psutil", "pillow", "imagecodecs",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    what: str
    found: str
    is_well: bool = True


def examine_installation() -> list[Finding]:
    """Return what was found, in the order a reader wants it."""
    return [
        Finding("medmm", f"{medmm.__version__} on Python {platform.python_version()}, {platform.system()}"),
        *_libraries(),
        *_devices(),
        *_decoders(),
        *_models(),
        *_graph(),
        *_id_key(),
    ]


def _libraries() -> Iterator[Finding]:
    missing = []
    versions = []
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    yield Finding("libraries", ", ".join(versions))
    if missing:
        yield Finding("missing libraries", ", ".join(missing), is_well=False)


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding("cpu", f"{torch.get_num_threads()} threads for the model")
    if not torch.cuda.is_available():
        yield Finding("cuda", "none; models run on the CPU")
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        yield Finding(f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")


def _decoders() -> Iterator[Finding]:
    """Which compressed transfer syntaxes can be read."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGLSLossless, JPEGLSNearLossless, RLELossless

    syntaxes = (RLELossless, JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless, JPEG2000)
    for syntax in syntaxes:
        available = get_decoder(syntax).is_available
        yield Finding("decoder", f"{syntax.name}: {'yes' if available else 'no package installed'}", available)


def _models() -> Iterator[Finding]:
    from medmm.checkpoint import load_checkpoint
    from medmm.diagnose import find_model, shipped_models

    names = shipped_models()
    if not names:
        yield Finding("models", "none shipped; pass a model directory to `medmm diagnose --model`")
    for name in names:
        try:
            config = load_checkpoint(find_model(name)).model.config
        except UsageError as error:
            yield Finding(f"model {name}", str(error), is_well=False)
        else:
            yield Finding(f"model {name}", f"version {config.version}, files whole")


def _graph() -> Iterator[Finding]:
    """The default graph; the first call builds and caches it, which takes some ten seconds."""
    import kg

    try:
        graph = kg.load_default()
    except kg.KgError as error:
        yield Finding("knowledge graph", str(error), is_well=False)
        return
    size = f"{graph.n_concepts:,} concepts, {graph.n_relations:,} relations"
    yield Finding("knowledge graph", f"{size}, version {graph.hash[:12]}")


def _id_key() -> Iterator[Finding]:
    from medmm.identity import KEY_BYTES, default_key_path

    place: Path = default_key_path()
    if not place.exists():
        yield Finding("id key", "not made yet; the first run makes it")
        return
    is_private = place.stat().st_mode & 0o077 == 0
    is_long = place.stat().st_size >= KEY_BYTES
    found = "readable by you alone" if is_private else "readable by others: chmod 600 it"
    yield Finding("id key", found if is_long else "too short: remove it", is_private and is_long)
