"""A recipe and its phantoms, small enough to train in seconds."""

from pathlib import Path

import tiny_models as tiny
from evaluation_builders import phantom_rows, write_manifest

RECIPE = f"""
name = "tiny-train"
logger = "csv"
[model]
width = 8
record = ["age_years", "sex"]
[model.volume]
preprocessing = {{ roles = ["t1", "flair"], reference_order = ["flair", "t1"], size_pixels = 32 }}
widths = {list(tiny.WIDTHS)}
tokens = ["descriptor"]
regions = [{{ name = "lesion", title = "Lesion" }}]
[[tasks]]
name = "kind"
classes = ["glioblastoma", "meningioma", "other"]
[[tasks]]
name = "side"
source = "location"
classes = ["left", "right"]
[validation]
folds = 2
stratify = ["side"]
[leaks]
allow = ["image"]  # one noisy ball in a disc looks like another
[training.where]
epochs = 10
slices_per_case = 6
batch_size = 8
learning_rate = 1e-2
precision = "32-true"
[training.what]
epochs = 4
patience = 2
[card]
licence = "CC0"
data = "Phantoms."
"""


def write_recipe(folder: Path, text: str = RECIPE) -> Path:
    """Write a recipe."""
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def write_cases(folder: Path, n: int = 12) -> Path:
    """Write phantoms of `n` patients, all of one split, whose reports say nothing."""
    rows = phantom_rows(folder, n)
    for row in rows:
        row["split"], row["report_text"] = "", ""
    return write_manifest(folder, rows)
