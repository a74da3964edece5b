"""What is slow to compute is kept in the work folder, under a name that says what it was made from."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


def kept(work: Path | None, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the arrays of that name, made only if they are not there; without a work folder made every time."""
    file = None if work is None else work / f"{name}.safetensors"
    if file is not None and file.is_file():
        return dict(load_file(file))
    made = make()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        save_file({key: np.ascontiguousarray(value) for key, value in made.items()}, partial)
        partial.replace(file)
    return made
