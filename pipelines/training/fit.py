"""One model, fitted on some cases and asked about others: the only way models are trained here.

Where (the trunk, from masks), then what the trunk sees of every case, then places, then what (fusion and heads, and an
image network where the recipe trains one).
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
from medmm.heads import pooled_logits, probabilities
from medmm.inputs import CaseFeatures, CaseReader, CaseView
from medmm.model import MultimodalModel
from medmm.objectives.pseudo_labels import pseudo_labels, with_pseudo_labels
from pipelines.statistics import dice
from pipelines.training.cohort import Cohort, with_record
from pipelines.training.images import ImageFeed
from pipelines.training.objectives import PseudoLabels
from pipelines.training.recipe import Recipe
from pipelines.training.search import search_settings
from pipelines.training.text import adapt_text_encoder
from pipelines.training.trainer import Watch, mixed_seed
from pipelines.training.what import (
    IMAGE_NETWORK,
    WhatSettings,
    fit_locations,
    predict_logits,
    settle_images,
    train_what,
)
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

    `features` are those of the cases that taught it; `members` are the other models of an ensemble.
    """

    reader: CaseReader
    members: Sequence[MultimodalModel]
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
    encoder = _text_encoder(materials, plan, tell)
    reader = CaseReader(model.eval(), encoder, materials.graph)
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
    readers, learned = [reader], [Learned(features=features, epochs=0)]
    if materials.labels.fusion_tasks():
        settings = search_settings(reader, features[:n_train], targets, cohort.patients[plan.train], settings, recipe)
        readers = [reader, *_other_members(reader, plan, recipe)]
        lesson = Lesson(
            rows=rows, features=features, targets=targets, settings=settings, stop=stop, plan=plan,
        )  # fmt: skip
        tell(f"{plan.name}: what")
        learned = [_learn(materials, lesson, member, number) for number, member in enumerate(readers)]
        epochs["what"] = int(np.median([one.epochs for one in learned]))
    answers = [
        predict_logits(member, one.features[n_train:]) if len(plan.test) else {}
        for member, one in zip(readers, learned, strict=True)
    ]
    kinds = {task.name: task.kind for task in materials.labels.tasks}
    return Fitted(
        reader=reader,
        members=[member.model for member in readers[1:]],
        features=learned[0].features[:n_train],
        logits={
            name: pooled_logits([torch.from_numpy(by_task[name]) for by_task in answers], kinds[name]).numpy()
            for name in answers[0]
        },
        overlaps=_overlaps(materials, plan.test, views[n_train:]),
        epochs=epochs,
        settings=settings,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What every member of an ensemble learns from: `features` of `rows`, of which the first have `targets`."""

    rows: np.ndarray
    features: Sequence[CaseFeatures]
    targets: Mapping[str, np.ndarray]
    settings: WhatSettings
    stop: Sequence[int]
    plan: FitPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """The features as a trained model sees them, and how many epochs its weights took."""

    features: Sequence[CaseFeatures]
    epochs: int


def _learn(materials: Materials, lesson: Lesson, reader: CaseReader, number: int) -> Learned:
    """Train member `number` in place; with pseudo-labels, a second time from the start."""
    recipe, plan = materials.recipe, lesson.plan
    objectives, features, targets = recipe.training.objectives, lesson.features, lesson.targets
    n_train = len(plan.train)
    seed = plan.seed if number == 0 else mixed_seed(plan.seed, number) % 2**31
    settings = dataclasses.replace(lesson.settings, seed=seed)
    feed = None
    if recipe.training.images is not None:
        pixels = [materials.cohort.pixels(row) for row in lesson.rows.tolist()]
        feed = ImageFeed(pixels, recipe.training.images, seed)

    def train(step: str, labels: Mapping[str, np.ndarray]) -> int:
        name = step if number == 0 else f"{step}-{number}"
        watch = Watch(
            checkpoints=plan.place / name, logs=plan.logs, logger=recipe.logger, name=f"{plan.name}-{name}",
        )  # fmt: skip
        return train_what(
            reader, features[:n_train], labels, settings, validation=lesson.stop, watch=watch,
            objectives=objectives, images=feed,
        )  # fmt: skip

    start = {name: value.clone() for name, value in reader.model.state_dict().items()}
    epochs = train("what", targets)
    if objectives.pseudo_labels is not None:
        seen = features[:n_train] if feed is None else feed.see_again(reader, features)[:n_train]
        more = pseudo_targets(reader, seen, targets, objectives.pseudo_labels, lesson.stop)
        reader.model.load_state_dict(start)
        epochs = train("what-again", more)
    if feed is not None:
        features = feed.see_again(reader, features)
        settle_images(reader, features[:n_train])
    return Learned(features=features, epochs=epochs)


def pseudo_targets(
    reader: CaseReader,
    features: Sequence[CaseFeatures],
    targets: Mapping[str, np.ndarray],
    settings: PseudoLabels,
    stop: Sequence[int],
) -> dict[str, np.ndarray]:
    """Return the targets, filled where the model is sure in tasks of one class; cases in `stop` stay as they are."""
    logits, filled = predict_logits(reader, features), dict(targets)
    for task in reader.model.labels.fusion_tasks():
        if task.kind not in ("exclusive", "ordinal"):
            continue
        chances = probabilities(torch.from_numpy(logits[task.name]), task.kind).numpy()
        chances[list(stop)] = 0
        guessed = pseudo_labels(chances, settings.min_confidence, max_a_class=settings.max_a_class)
        filled[task.name] = with_pseudo_labels(targets[task.name], guessed)
    return filled


def _other_members(reader: CaseReader, plan: FitPlan, recipe: Recipe) -> list[CaseReader]:
    """Readers of further models of an ensemble: their own first weights, the same front and places."""
    ensemble = recipe.training.objectives.ensemble
    members = []
    for number in range(1, ensemble.members if ensemble is not None else 1):
        torch.manual_seed(mixed_seed(plan.seed, number))
        model = MultimodalModel(reader.config, reader.model.labels)
        shared = ("trunk.", "locations.", IMAGE_NETWORK)
        front = {name: value for name, value in reader.model.state_dict().items() if name.startswith(shared)}
        model.load_state_dict(front, strict=False)
        members.append(CaseReader(model.eval(), reader.text_encoder, reader.graph))
    return members


def _text_encoder(materials: Materials, plan: FitPlan, tell: Tell) -> TextEncoder | None:
    """The encoder of the recipe, adapted to the reports of the plan's own cases where the recipe says so."""
    settings, encoder = materials.recipe.training.objectives.masked_language, materials.text_encoder
    if settings is None or encoder is None:
        return encoder
    reports = [case.report for case in map(materials.cohort.case, plan.train.tolist())]
    texts = [report.text for report in reports if report is not None and report.text.strip()]
    tell(f"{plan.name}: masked language, {len(texts)} reports")
    return adapt_text_encoder(encoder, texts, settings, plan.seed)


def look_at_cases(materials: Materials, plan: FitPlan, reader: CaseReader, rows: Sequence[int]) -> list[CaseView]:
    """Return the cases as the model's frozen front sees them; looked at once where every fit has the same front."""
    config = reader.config
    adapts = materials.recipe.training.objectives.masked_language is not None
    is_same_front = not adapts and config.images is None and (config.volume is None or plan.trunk is not None)
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
    adversarial = recipe.training.objectives.adversarial
    return train_where(teach, settings, validation=stop, watch=watch, adversarial=adversarial)


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
