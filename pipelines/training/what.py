"""Step two of training: fusion and heads learn what, on features that the frozen front has already computed."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, cast

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medmm.calibration import fit_calibration
from medmm.config import MODALITIES, Labels, TaskSpec
from medmm.decision import TaskDecision
from medmm.errors import UsageError
from medmm.evidence import concept_vectors
from medmm.heads import task_loss
from medmm.hierarchy import descendants
from medmm.inputs import CaseFeatures, CaseReader, collate
from medmm.location import LocationHead, location_terms
from medmm.model import ModelInputs, ModelOutput, MultimodalModel
from medmm.objectives.balance import TaskBalance
from pipelines.training.following import fit_following
from pipelines.training.images import ImageBatch, ImageFeed, look
from pipelines.training.objectives import ObjectiveLosses, Objectives, loss_of_hurt_pixels
from pipelines.training.trainer import VALIDATION_LOSS, EpochSampler, Watch, fit_quietly

logger = logging.getLogger(__name__)
UNKNOWN = -1
IMAGE_NETWORK = "image_network."
IMPOSSIBLE_LOGIT = -20.0  # of a place where no training case had its region


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class WhatSettings:
    """How fusion and heads are trained.

    `modality_dropout`: the chance of hiding each present modality of a case. `blank`: the chance of hiding all of them,
    so that the answer to nothing, from which Shapley shares are counted, is the training cases' prior. `patience`:
    epochs without a lower loss on the validation cases after which training stops; 0 never stops early. Rare classes
    weigh more in the loss, in inverse proportion to how often they occur, unless `is_balanced` is off.
    `balances_tasks`: learn how much each task's loss counts, instead of alike.
    """

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 60
    batch_size: Annotated[int, Field(ge=1)] = 16
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    modality_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.25
    blank: Annotated[float, Field(ge=0, lt=1)] = 0.08
    own_loss: Annotated[float, Field(ge=0)] = 0.3
    is_balanced: bool = True
    balances_tasks: bool = False
    patience: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0)] = 0


class WhatTraining(lightning.LightningModule):
    """Cross-entropy of the mixed decision, plus a share of each modality's own decision, over all tasks."""

    def __init__(
        self,
        reader: CaseReader,
        features: Sequence[CaseFeatures],
        targets: Mapping[str, np.ndarray],
        class_weights: Mapping[str, Tensor],
        settings: WhatSettings,
        objectives: Objectives,
        images: ImageFeed | None = None,
    ) -> None:
        super().__init__()
        self.images = images
        self.objectives = ObjectiveLosses(objectives, reader.model)
        self.reader = reader
        self.model = reader.model
        self.features = features
        self.targets = {name: torch.from_numpy(values).long() for name, values in targets.items()}
        self.class_weights = class_weights
        self.settings = settings
        self.balance = TaskBalance(len(self.model.labels.fusion_tasks())) if settings.balances_tasks else None
        self.generator = torch.Generator().manual_seed(settings.seed)

    def training_step(self, rows: Tensor, _: int) -> Tensor:
        batch = self.images.batch(rows.tolist(), self.current_epoch) if self.images is not None else None
        inputs = self._inputs(rows, batch)
        was_present = inputs.present
        keep = torch.rand(was_present.shape, generator=self.generator) >= self.settings.modality_dropout
        keep &= torch.rand(len(rows), 1, generator=self.generator) >= self.settings.blank
        inputs = inputs.with_present(was_present & keep.to(self.device))
        output: ModelOutput = self.model(inputs)
        losses: list[Tensor | None] = [self._loss(output, inputs.present, rows)]
        if output.fused is not None:
            losses.append(self.objectives(self.model, inputs, was_present, output.fused))
        losses.append(self.objectives.on_text(inputs, lambda text: self._loss_of(replace(inputs, text=text), rows)))
        if batch is not None:

            def loss_of_pixels(pixels: Tensor) -> Tensor:
                seen = look(self.model, replace(batch, array=pixels))
                return self._loss_of(replace(inputs, images=seen), rows)

            adversarial = self.objectives.objectives.adversarial
            losses.append(loss_of_hurt_pixels(adversarial, batch.array.to(self.device), loss_of_pixels))
            losses.append(self.objectives.on_images(self.model, inputs, batch, self.generator))
        loss = torch.stack([part for part in losses if part is not None]).sum()
        self.log("training_loss", loss, batch_size=len(rows))
        return loss

    def _loss_of(self, inputs: ModelInputs, rows: Tensor) -> Tensor:
        return self._loss(self.model(inputs), inputs.present, rows)

    def _loss(self, output: ModelOutput, present: Tensor, rows: Tensor) -> Tensor:
        """The mixed decision's loss plus a share of each present modality's own, over all tasks."""
        by_task = []
        for task in self.model.labels.fusion_tasks():
            target, weights = self._truth(task, rows)
            losses = [task_loss(output.logits[task.name], target, task.kind, weights)]
            for column in range(len(MODALITIES)):
                has = present[:, column]
                if has.any():
                    own = output.own_logits[task.name][has, column]
                    losses.append(self.settings.own_loss * task_loss(own, target[has], task.kind, weights))
            by_task.append(torch.stack(losses).sum())
        return torch.stack(by_task).sum() if self.balance is None else self.balance(torch.stack(by_task))

    def validation_step(self, rows: Tensor, _: int) -> None:
        batch = self.images.batch(rows.tolist()) if self.images is not None else None
        output: ModelOutput = self.model(self._inputs(rows, batch))
        losses = []
        for task in self.model.labels.fusion_tasks():
            target, weights = self._truth(task, rows)
            losses.append(task_loss(output.logits[task.name], target, task.kind, weights))
        self.log(VALIDATION_LOSS, torch.stack(losses).sum(), batch_size=len(rows), prog_bar=True)

    def _inputs(self, rows: Tensor, batch: ImageBatch | None) -> ModelInputs:
        """The cases as a batch; images are looked at anew where the network learns."""
        inputs = collate([self.features[row] for row in rows.tolist()], self.reader)
        return inputs if batch is None else replace(inputs, images=look(self.model, batch))

    def _truth(self, task: TaskSpec, rows: Tensor) -> tuple[Tensor, Tensor]:
        """A task's targets (B, ...) and class weights (L,), where the model is."""
        return self.targets[task.name][rows.cpu()].to(self.device), self.class_weights[task.name].to(self.device)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        learned = [value for name, value in self.model.named_parameters() if _is_learned_here(name)]
        learned += [*self.objectives.parameters()]
        learned += [] if self.balance is None else list(self.balance.parameters())
        groups, rates = [{"params": learned}], [self.settings.learning_rate]
        if self.images is not None:
            groups.append({"params": list(self.model.image_network.parameters())})
            rates.append(self.images.settings.learning_rate)
        optimiser = torch.optim.AdamW(groups, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            rates,
            total_steps=int(self.trainer.estimated_stepping_batches),
            pct_start=0.2,
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Rows(Dataset[int]):
    """Rows by the keys of `EpochSampler`."""

    def __init__(self, rows: Sequence[int]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int) -> int:
        return self.rows[key % len(self.rows)]


def train_what(
    reader: CaseReader,
    features: Sequence[CaseFeatures],
    targets: Mapping[str, np.ndarray],
    settings: WhatSettings,
    *,
    validation: Sequence[int] = (),
    watch: Watch | None = None,
    objectives: Objectives | None = None,
    images: ImageFeed | None = None,
) -> int:
    """Train everything of the reader's model but the trunk and the location heads (`fit_locations`), in place.

    The image network is frozen unless its cases' images are given; then `settle_images` has to follow.

    Args:
        reader: Front of the model that the features were computed with.
        features: The cases (N).
        targets: By task, class indices (N,), -1 where unknown.
        settings: How long and how fast.
        validation: Rows of these cases that only decide when to stop, where `settings.patience` is set.
        watch: Where checkpoints and logs go; its validation and seed are those given here.
        objectives: What is learned besides labels; those that concern one training of this step.
        images: The same cases' images, to train the image network, too.
    Returns:
        How many epochs the weights took.
    Raises:
        UsageError: `config.key` for the contrastive objective without a joint space.
    """
    model = reader.model
    lightning.seed_everything(settings.seed, verbose=False)
    held_out = sorted(set(validation))
    rows = [row for row in range(len(features)) if row not in set(held_out)]
    seen = {name: values[rows] for name, values in targets.items()}
    set_concepts(reader)
    # What a network that learns will see is not known yet.
    fixed = features if images is None else [replace(item, images=None) for item in features]
    _fit_statistics(model, [fixed[row] for row in rows])
    set_names(reader, [features[row] for row in rows])
    fit_following(reader, seen)
    weights = {
        task.name: _class_weights(task, seen[task.name], settings.is_balanced) for task in model.labels.fusion_tasks()
    }
    training = WhatTraining(reader, features, targets, weights, settings, objectives or Objectives(), images)
    loader = DataLoader(
        _Rows(rows),
        batch_size=min(settings.batch_size, len(rows)),
        drop_last=True,
        sampler=EpochSampler(rows, training, settings.seed),
    )
    for name, value in model.named_parameters():
        value.requires_grad_(_is_learned_here(name) or (images is not None and name.startswith(IMAGE_NETWORK)))
    model.train()
    watch = replace(
        watch or Watch(),
        seed=settings.seed,
        patience=settings.patience,
        validation=DataLoader(_Rows(held_out), batch_size=settings.batch_size) if held_out else None,
    )
    # Seconds of work on pooled features: moving them to a GPU would cost more.
    epochs = fit_quietly(
        training,
        loader,
        epochs=settings.epochs,
        accelerator="cpu" if images is None else "auto",
        precision="32-true" if images is None else images.settings.precision,
        watch=watch,
    )
    model.eval()
    if images is None:
        _fit_energy(reader, [features[row] for row in rows])
    return epochs


def settle_images(reader: CaseReader, features: Sequence[CaseFeatures]) -> None:
    """Fit what is measured against the training cases, in place, to what the trained image network sees of them.

    Args:
        reader: Front of the model that `train_what` trained with images.
        features: Its training cases as `ImageFeed.see_again` gives them.
    """
    model = reader.model
    vectors = [item.images for item in features if item.images is not None]
    if len(vectors) > 1:
        model.image_tokens.centre(torch.cat(vectors))
        model.ood.fit(torch.stack([images.mean(dim=0) for images in vectors]))
    _fit_energy(reader, features)


@torch.no_grad()
def predict_logits(
    reader: CaseReader, features: Sequence[CaseFeatures], kept: tuple[bool, ...] = (True,) * len(MODALITIES)
) -> dict[str, np.ndarray]:
    """Return uncalibrated logits (N, L) by task, with only the modalities `kept` (in the order of `MODALITIES`)."""
    inputs = collate(features, reader)
    output = reader.model.eval()(inputs.with_present(inputs.present & torch.tensor(kept)))
    return {name: logits.double().numpy() for name, logits in output.logits.items()}


def calibrate(labels: Labels, logits: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> Labels:
    """Return labels with temperature and conformal quantile from cases that the model did not see."""
    tasks = []
    for task in labels.tasks:
        calibration = fit_calibration(task, logits[task.name], targets[task.name])
        tasks.append(task.model_copy(update={"calibration": calibration}))
    return labels.model_copy(update={"tasks": tuple(tasks)})


def set_concepts(reader: CaseReader) -> None:
    """Fill the class concepts' vectors, and which findings are kinds of which, from the knowledge graph."""
    if reader.graph is None:
        return
    for task in reader.model.labels.fusion_tasks():
        decision = cast(TaskDecision, reader.model.decisions[task.name])
        decision.concepts.copy_(torch.from_numpy(concept_vectors(reader.graph, task)))
        if task.kind == "multilabel":
            table = descendants(reader.graph, [label.concept for label in task.classes])
            decision.is_below.copy_(torch.from_numpy(table))


def set_names(reader: CaseReader, features: Sequence[CaseFeatures]) -> None:
    """Fill the vectors of the candidates' names in ranking tasks, and the training cases' mean sentence."""
    texts = [item.text for item in features if item.text is not None]
    for task in reader.model.labels.fusion_tasks():
        match = cast(TaskDecision, reader.model.decisions[task.name]).match
        names = reader.name_vectors([label.title for label in task.classes]) if match is not None and texts else None
        if match is not None and names is not None:
            match.fit(names, torch.cat(texts))


def fit_locations(model: MultimodalModel, features: Sequence[CaseFeatures], targets: Mapping[str, np.ndarray]) -> None:
    """Fit every location head, in place. Comes before the graph is consulted: the place found is evidence for it."""
    for task in model.labels.location_tasks():
        _fit_location(model, task, features, targets[task.name])


def _fit_location(model: MultimodalModel, task: TaskSpec, features: Sequence[CaseFeatures], target: np.ndarray) -> None:
    """Fit a location head by logistic regression on where the regions of the training cases lie.

    Raises:
        UsageError: `model.mismatch` where fewer than two places were found to tell apart.
    """
    usable = [
        row
        for row, item in enumerate(features)
        if target[row] != UNKNOWN and item.summary is not None and bool(item.summary.found[0])
    ]
    n_places = len(set(target[usable].tolist()))
    if n_places < 2:
        raise UsageError(
            f"Expected cases with a found region in at least two places of {task.name} (got {n_places}).",
            code="model.mismatch",
        )
    terms = torch.cat([location_terms(features[row].summary.position, task.laterality) for row in usable]).numpy()  # type: ignore[union-attr]
    fitted = LogisticRegression(C=10.0, max_iter=2000).fit(terms, target[usable])
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # scikit-learn keeps one row for two classes
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    n_classes = len(task.classes)
    weight = torch.zeros(n_classes, terms.shape[1])
    bias = torch.full((n_classes,), IMPOSSIBLE_LOGIT)
    weight[fitted.classes_] = torch.from_numpy(coefficients).float()
    bias[fitted.classes_] = torch.from_numpy(intercepts).float()
    cast(LocationHead, model.locations[task.name]).set_linear(weight, bias)


@torch.no_grad()
def _fit_energy(reader: CaseReader, features: Sequence[CaseFeatures]) -> None:
    """Set how weak the answers to training cases are, for models that flag weak answers."""
    if reader.model.config.outlier == "energy":
        reader.model.energy.fit(list(reader.model(collate(features, reader)).logits.values()))


def _fit_statistics(model: MultimodalModel, features: Sequence[CaseFeatures]) -> None:
    """Set what standardises the inputs, and the distance at which a case is unlike the training cases."""
    summaries = [item.summary for item in features if item.summary is not None and bool(item.summary.found[0])]
    if len(summaries) > 1:
        model.ood.fit(torch.cat([summary.lesion for summary in summaries]))
        model.volume_tokens.fit(summaries)
    images = [item.images for item in features if item.images is not None]
    if len(images) > 1:
        model.ood.fit(torch.stack([vectors.mean(dim=0) for vectors in images]))
        model.image_tokens.fit(torch.cat(images))
    texts = [item.text for item in features if item.text is not None]
    if texts:
        model.text_tokens.standard.fit(torch.cat(texts))


def _class_weights(task: TaskSpec, target: np.ndarray, is_balanced: bool) -> Tensor:
    """For imbalance; none for tasks whose probabilities it would bend and that have thresholds of their own."""
    if not is_balanced or task.kind in ("survival", "multilabel", "ranking", "regression"):
        return torch.ones(len(task.classes))
    counts = np.bincount(target[target != UNKNOWN], minlength=len(task.classes)).astype(float)
    return torch.from_numpy(np.where(counts > 0, counts.sum() / (len(counts) * np.maximum(counts, 1)), 0.0)).float()


def _is_learned_here(name: str) -> bool:
    return not name.startswith(("trunk.", IMAGE_NETWORK, "locations."))
