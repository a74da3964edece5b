"""One model, fitted on some cases and asked about others: the only way models are trained here.

Where (the trunk, from masks), then what the trunk sees of every case, then places, then what (fusion and heads).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from kg import KnowledgeGraph
from medmm.config import Labels, ModelConfig
from medmm.encoders.record import encode_record
from medmm.encoders.slice_unet import SliceUNet
from medmm.encoders.text import TextEncoder
from medmm.errors import UsageError
from medmm.inputs import CaseFeatures, CaseReader, CaseView
from medmm.model import MultimodalModel
from pipelines.statistics import dice
from pipelines.training.cohort import Cohort, with_record
from pipelines.training.recipe import Recipe
from pipelines.training.search import search_settings
from pipelines.training.trainer import Watch, mixed_seed
from pipelines.training.what import WhatSettings, fit_locations, predict_logits, train_what
from pipelines.training.where import TrainedTrunk, WhereSettings, train_where

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Materials:
    """What every fit of a recipe shares. `config` has no record fields yet: each fit takes them from its own cases.

    `seen` are the cases as the frozen front sees them, where that is the same front in every fit.
    """

    recipe: Recipe
    config: ModelConfig
    labels: Labels
    cohort: Cohort
    graph: KnowledgeGraph | None
    text_encoder: TextEncoder | None
    seen: dict[int, CaseView] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitPlan:
    """Which rows do what: `train` teach, `stop` (some of them) decide when to stop, `test` are asked.

    `place` is the folder for checkpoints, `logs` that of the curves, `trunk` an already trained one; `epochs` fixes how
    long both steps train (where there is nobody to stop them).
    """

    name: str
    train: np.ndarray
    stop: np.ndarray
    test: np.ndarray
    place: Path
    logs: Path
    seed: int
    trunk: SliceUNet | None = None
    epochs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A fitted model with its answers: `logits` (T, L) by task and `overlaps` (T, R), NaN without mask, of `test`.

    `features` are those of the cases that taught it.
    """

    reader: CaseReader
    features: Sequence[CaseFeatures]
    logits: Mapping[str, np.ndarray]
    overlaps: np.ndarray
    epochs: Mapping[str, int]
    settings: WhatSettings


def fit(materials: Materials, plan: FitPlan, tell: Tell) -> Fitted:
    """Return the model of a plan."""
    cohort, recipe = materials.cohort, materials.recipe
    config = with_record(materials.config, recipe.model.record, cohort, plan.train)
    torch.manual_seed(mixed_seed(plan.seed))  # the first weights must not depend on what ran before
    model = MultimodalModel(config, materials.labels)
    epochs: dict[str, int] = {}
    if config.volume is not None:
        if plan.trunk is None:
            trained = fit_trunk(materials, plan, tell)
            model.trunk, epochs["where"] = trained.trunk, trained.epochs
        else:
            model.trunk = plan.trunk
    reader = CaseReader(model.eval(), materials.text_encoder, materials.graph)
    tell(f"{plan.name}: looking at the cases")
    rows = np.concatenate([plan.train, plan.test])
    views = look_at_cases(materials, plan, reader, rows.tolist())
    targets = {name: values[plan.train] for name, values in cohort.targets.items()}
    n_train = len(plan.train)
    if materials.labels.location_tasks():
        fit_locations(model, [view.features for view in views[:n_train]], targets)
        views = [reader.consult_graph(view) for view in views]
    features = [view.features for view in views]
    settings = dataclasses.replace(
        recipe.training.what, seed=plan.seed, epochs=plan.epochs.get("what", recipe.training.what.epochs)
    )
    stop = np.flatnonzero(np.isin(plan.train, plan.stop)).tolist()
    if materials.labels.fusion_tasks():
        settings = search_settings(reader, features[:n_train], targets, cohort.patients[plan.train], settings, recipe)
        tell(f"{plan.name}: what")
        watch = Watch(
            checkpoints=plan.place / "what", logs=plan.logs, logger=recipe.logger,
            name=f"{plan.name}-what",
        )  # fmt: skip
        epochs["what"] = train_what(reader, features[:n_train], targets, settings, validation=stop, watch=watch)
    return Fitted(
        reader=reader,
        features=features[:n_train],
        logits=predict_logits(reader, features[n_train:]) if len(plan.test) else {},
        overlaps=_overlaps(materials, plan.test, views[n_train:]),
        epochs=epochs,
        settings=settings,
    )


def look_at_cases(materials: Materials, plan: FitPlan, reader: CaseReader, rows: Sequence[int]) -> list[CaseView]:
    """Return the cases as the model's frozen front sees them; looked at once where every fit has the same front."""
    config = reader.config
    is_same_front = config.images is None and (config.volume is None or plan.trunk is not None)
    views = []
    for row in rows:
        view = materials.seen.get(row)
        if view is None:
            view = lean(reader.read(materials.cohort.case(row)))
            if is_same_front:
                materials.seen[row] = view
        record = view.case.record
        values = tuple(encode_record(record, config.record)) if record is not None and config.record else None
        views.append(dataclasses.replace(view, features=dataclasses.replace(view.features, record=values)))
    return views


def fit_trunk(materials: Materials, plan: FitPlan, tell: Tell) -> TrainedTrunk:
    """Return the trunk, trained on the plan's cases that have a mask, or taken out of another model.

    Raises:
        UsageError: `config.table` where no case has a mask.
    """
    recipe, cohort = materials.recipe, materials.cohort
    volume = recipe.model.volume
    if volume is None:
        raise ValueError("Expected a recipe with a volume branch.")
    if volume.trunk_from:
        return TrainedTrunk(borrowed_trunk(volume.trunk_from, materials.config), 0)
    found = {row: example for row in plan.train if (example := cohort.example(row)) is not None}
    stop = [example for row, example in found.items() if row in set(plan.stop.tolist())]
    teach = [example for row, example in found.items() if row not in set(plan.stop.tolist())]
    if not teach:
        raise UsageError(
            "No case to learn from has a mask, so the trunk cannot learn where to look.",
            code="config.table",
            remedy='Add a column `mask`, or take a trained trunk: trunk_from = "glioma-mri" under [model.volume].',
        )
    settings: WhereSettings = dataclasses.replace(
        recipe.training.where, trunk=volume.trunk, widths=volume.widths, seed=plan.seed,
        epochs=plan.epochs.get("where", recipe.training.where.epochs),
    )  # fmt: skip
    tell(f"{plan.name}: where, {len(teach)} cases, at most {settings.epochs} epochs")
    watch = Watch(
        checkpoints=plan.place / "where", logs=plan.logs, logger=recipe.logger,
        name=f"{plan.name}-where",
    )  # fmt: skip
    return train_where(teach, settings, validation=stop, watch=watch)


def borrowed_trunk(name: str, config: ModelConfig) -> SliceUNet:
    """Return the trunk of a shipped model or a model directory.

    Raises:
        UsageError: `model.mismatch` where it reads or marks something else.
    """
    from medmm.checkpoint import load_checkpoint
    from medmm.diagnose import find_model

    other = load_checkpoint(find_model(name)).model
    mine, theirs = config.volume, other.config.volume
    fits = (
        mine is not None
        and theirs is not None
        and (mine.trunk, mine.widths, len(mine.regions), mine.preprocessing)
        == (theirs.trunk, theirs.widths, len(theirs.regions), theirs.preprocessing)
    )
    if not fits:
        raise UsageError(
            f"The trunk of {Path(name).name!r} does not fit this recipe: network, regions or preprocessing differ.",
            code="model.mismatch",
            remedy="Copy [model.volume] from that model's config.json.",
        )
    return other.trunk


def lean(view: CaseView) -> CaseView:
    """Return the view without pixels and feature maps: the graph needs neither, and many cases would fill memory."""
    seen = (
        None if view.seen is None else dataclasses.replace(view.seen, features=view.seen.features[..., :0, :0].clone())
    )
    return dataclasses.replace(
        view, prepared=None, images=None, maps=None, seen=seen, case=dataclasses.replace(view.case, volumes={})
    )


@torch.no_grad()
def _overlaps(materials: Materials, rows: np.ndarray, views: Sequence[CaseView]) -> np.ndarray:
    """Dice (T, R) on the network's grid."""
    volume = materials.config.volume
    if volume is None:
        return np.full((len(rows), 0), np.nan)
    table = np.full((len(rows), len(volume.regions)), np.nan)
    for place, (row, view) in enumerate(zip(rows, views, strict=True)):
        example = materials.cohort.example(row)
        if example is None or view.seen is None:
            continue
        chances = view.seen.region_logits[0].sigmoid().float().cpu().numpy()
        for number, region in enumerate(volume.regions):
            table[place, number] = dice(chances[number] > region.threshold, example.regions[number])
    return table
