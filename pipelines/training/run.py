"""`medmm train`, top to bottom: recipe and manifest in, a calibrated model directory out, resumable after a kill."""

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from medmm.checkpoint import save_model
from medmm.config import Labels, ModelConfig
from medmm.diagnose import MEMBERS
from medmm.encoders.slice_unet import SliceUNet
from medmm.encoders.text import TextEncoder
from medmm.errors import UsageError
from medmm.report.files import write_atomic
from medmm.similar import embed_training_cases
from pipelines.evaluation.answers import check_labels
from pipelines.evaluation.comparison import Comparison
from pipelines.evaluation.measures import Table, to_json
from pipelines.evaluation.predictions import read_predictions
from pipelines.evaluation.run import TRAINING_CASES
from pipelines.events import CaseDone, Found, Listener, Told, ignore
from pipelines.manifest import Manifest, ManifestRow, read_manifest
from pipelines.statistics import N_BOOTSTRAP
from pipelines.training.card import CardFacts, write_card
from pipelines.training.cohort import Cohort, Reading, read_cohort
from pipelines.training.effort import Effort
from pipelines.training.fit import FitPlan, Fitted, Materials, Tell, fit, fit_trunk
from pipelines.training.folds import VALIDATION_SPLIT, Fold, build_folds, hold_out, strata_of
from pipelines.training.leaks import Leak, find_leaks, summarise_leaks
from pipelines.training.out_of_fold import (
    FoldAnswers,
    OutOfFold,
    compare_out_of_fold,
    join_folds,
    measure_out_of_fold,
    region_names,
    write_out_of_fold,
)
from pipelines.training.recipe import LeakKind, Recipe, read_recipe
from pipelines.training.trainer import is_main_process, process_rank
from pipelines.training.what import calibrate

TRAIN_SPLIT = "train"
FINGERPRINT = "fingerprint.json"
NOBODY = np.zeros(0, dtype=int)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """What to train. `work` keeps checkpoints, folds and logs; `OUT.work` where it is None.

    `against` is the work folder of another training whose out-of-fold answers this one's are compared with.
    """

    recipe: Path
    output: Path
    manifest: Path | None = None
    work: Path | None = None
    allow_leaks: tuple[LeakKind, ...] = ()
    may_resume: bool = False
    may_overwrite: bool = False
    only_check: bool = False
    against: Path | None = None
    n_resamples: int = N_BOOTSTRAP

    @property
    def work_folder(self) -> Path:
        """Where everything but the model goes."""
        return self.work or self.output.with_name(f"{self.output.name}.work")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came out. `metrics` are out of fold, `comparisons` by task; empty where the job was only checked."""

    n_cases: int
    n_patients: int
    n_folds: int
    n_refused: int
    metrics: Mapping[str, Table]
    comparisons: Mapping[str, Comparison]


def train(job: TrainJob, listener: Listener = ignore) -> Trained:
    """Cross-validate, fit on every case, calibrate on the out-of-fold answers, and write the model directory.

    Raises:
        UsageError: For a recipe, manifest or output that cannot be used, or a leak that was not allowed; nothing was
            trained.
    """
    effort, recipe, work = Effort(), read_recipe(job.recipe, job.manifest), job.work_folder
    manifest = read_manifest(recipe.data.manifest)
    rows = choose_rows(manifest, recipe)
    others = read_predictions(job.against / "predictions.csv") if job.against is not None else {}
    check_rows(rows, recipe)
    prepare_folders(job, recipe, rows)
    labels = recipe.labels()
    cohort = _read(rows, recipe, labels, work / "cases" / process_rank(), listener)
    leaks = guard(manifest, rows, cohort, {*recipe.leaks.allow, *job.allow_leaks}, listener)
    folds = build_folds(cohort.rows, cohort.targets, recipe.validation, recipe.seed)

    def trained(metrics: Mapping[str, Table], comparisons: Mapping[str, Comparison]) -> Trained:
        return Trained(
            n_cases=len(cohort), n_patients=len(set(cohort.patients)), n_folds=len(folds),
            n_refused=len(cohort.refused), metrics=metrics, comparisons=comparisons,
        )  # fmt: skip

    if job.only_check:
        shutil.rmtree(work / "cases", ignore_errors=True)
        return trained({}, {})

    def tell(message: str) -> None:
        listener(Told(message))

    materials = gather(recipe, labels, cohort)
    found = cross_validate(materials, folds, work, tell)
    final = fit_everyone(materials, found, work, tell)
    metrics = measure_out_of_fold(found, labels, region_names(materials.config), job.n_resamples)
    comparisons = compare_out_of_fold(found, labels, cohort, others, job.n_resamples)
    effort.stop()
    if is_main_process():
        model = final.reader.model
        model.labels = calibrate(labels, found.logits, found.targets)
        facts = CardFacts(
            recipe=recipe, config=model.config, labels=labels, cohort=cohort, folds=folds, metrics=metrics, leaks=leaks,
            effort=effort, epochs=final.epochs,
        )  # fmt: skip
        known = embed_training_cases(final.reader, final.features, _known_answers(cohort, labels))
        card, adapts = write_card(facts), recipe.training.objectives.masked_language is not None
        encoder = final.reader.text_encoder if adapts else None
        save_model(
            job.output, model, metrics=to_json(metrics), card=card, text_encoder=encoder, training_cases=known,
        )  # fmt: skip
        shutil.rmtree(job.output / MEMBERS, ignore_errors=True)
        for number, member in enumerate(final.members, 1):
            member.labels = model.labels
            save_model(job.output / MEMBERS / f"{number:02d}", member, metrics={}, card=card, text_encoder=encoder)
        _write_json(job.output / TRAINING_CASES, sorted({digest for item in cohort.prints for digest in item.hashes}))
        write_out_of_fold(work / "predictions.csv", found, labels, cohort)
        if comparisons:
            _write_json(work / "comparison.json", {name: asdict(one) for name, one in comparisons.items()})
        for name in ("cases", "fits"):
            shutil.rmtree(work / name, ignore_errors=True)
    return trained(metrics, comparisons)


def choose_rows(manifest: Manifest, recipe: Recipe) -> Sequence[ManifestRow]:
    """Return the rows to learn from; those of split `validation` are among them where the scheme is `split`.

    Raises:
        UsageError: `config.table` for a split that the manifest does not have.
    """
    split = recipe.data.split or (TRAIN_SPLIT if any(row.split == TRAIN_SPLIT for row in manifest.rows) else "")
    rows = list(manifest.of_split(split) if split else manifest.rows)
    if recipe.validation.scheme == "split":
        rows += manifest.of_split(VALIDATION_SPLIT)
    return rows


def check_rows(rows: Sequence[ManifestRow], recipe: Recipe) -> None:
    """Raise before any work where the manifest lacks what the recipe names.

    Raises:
        UsageError: `config.table`, naming the column.
    """
    check_labels(rows, recipe.labels().tasks)
    there = {f"record.{name}" for row in rows for name in row.record} | {
        f"label.{name}" for row in rows for name, value in row.labels.items() if value
    }
    needed = [f"record.{name}" for name in recipe.model.record] + [f"label.{task.name}" for task in recipe.tasks]
    if recipe.validation.group:
        needed.append(f"record.{recipe.validation.group}")
    for column in needed:
        if column not in there:
            raise UsageError(
                f"The recipe needs the manifest's column {column!r} (it is missing, or empty in every row).",
                code="config.table",
                remedy=f"Columns there are {', '.join(sorted(there)) or 'none of that kind'}.",
            )


def prepare_folders(job: TrainJob, recipe: Recipe, rows: Sequence[ManifestRow]) -> None:
    """Make the work folder, or accept that of the same run.

    Raises:
        UsageError: `config.output` where a model or another run is there and nothing was said about it.
    """
    if not is_main_process():  # under torchrun one process decides for all
        return
    work, digest = job.work_folder, _digest(recipe, rows)
    stored = work / FINGERPRINT
    if not job.only_check and (job.output / "config.json").exists() and not (job.may_overwrite or job.may_resume):
        raise UsageError(
            "There is a model in the output folder already.",
            code="config.output",
            remedy="Use --overwrite to replace it, or another --out.",
        )
    if stored.is_file() and not job.only_check:
        is_same = stored.read_text(encoding="utf-8").strip() == digest
        if job.may_resume and not is_same:
            raise UsageError(
                "The work folder is of another recipe or manifest, so it cannot be gone on with.",
                code="config.output",
                remedy="Use --overwrite to start anew, or another --out.",
            )
        if not (job.may_resume or job.may_overwrite):
            raise UsageError(
                "The work folder holds an earlier run.",
                code="config.output",
                remedy="Use --resume to finish it, or --overwrite to start anew.",
            )
        if job.may_overwrite:
            for name in ("folds", "fits", "logs", "cases"):
                shutil.rmtree(work / name, ignore_errors=True)
    try:
        write_atomic(stored if not job.only_check else work / ".check", f"{digest}\n".encode())
    except OSError as error:
        raise UsageError(f"The work folder cannot be written ({error.strerror}).", code="config.output") from None
    (work / ".check").unlink(missing_ok=True)


def guard(
    manifest: Manifest, rows: Sequence[ManifestRow], cohort: Cohort, allowed: Collection[str], listener: Listener
) -> tuple[Leak, ...]:
    """Return the leaks that were allowed, among the cases to learn from and against those of every other split.

    Raises:
        UsageError: `report.label_leak` or `config.table`, for a leak that was not allowed.
    """
    chosen = {row.case for row in rows}
    others = Cohort(Reading(tasks=()), cohort.store)
    for row in manifest.rows:
        if row.case not in chosen:
            others.add(row)
            others.forget()
    ours = {row.case for row in cohort.rows}
    leaks = find_leaks([*cohort.rows, *others.rows], [*cohort.prints, *others.prints])
    leaks = [leak for leak in leaks if ours & set(leak.cases)]
    refused = [leak for leak in leaks if leak.kind not in allowed]
    if refused:
        kinds = sorted({leak.kind for leak in refused})
        raise UsageError(
            f"The cases would leak: {summarise_leaks(refused)}.",
            code="report.label_leak" if kinds == ["label"] else "config.table",
            remedy="Mend the manifest (one patient, one name; copies out)"
            + (", or cover the label's words: mask_label = true under [leaks]" if "label" in kinds else "")
            + f". To go on in spite of it: {' '.join(f'--allow-leak {kind}' for kind in kinds)}.",
        )
    if leaks:
        listener(Told(f"Leaks were allowed: {summarise_leaks(leaks)}.", is_warning=True))
    return tuple(leaks)


def gather(recipe: Recipe, labels: Labels, cohort: Cohort) -> Materials:
    """Return what every fit shares: configuration, graph, text encoder."""
    import kg
    from kg.controls import shuffled_graph

    spec = recipe.model
    graph = kg.load_default() if spec.graph is not None else None
    if graph is not None and spec.graph is not None and spec.graph.control == "shuffled":
        graph = shuffled_graph(graph, seed=recipe.seed)
    encoder = TextEncoder(spec.text.source, spec.text.window) if spec.text is not None else None
    config = ModelConfig(
        name=recipe.name,
        version=recipe.version,
        width=spec.width,
        fusion=spec.fusion,
        outlier=spec.outlier,
        joint_width=spec.joint_width,
        volume=spec.volume.spec() if spec.volume is not None else None,
        images=spec.images,
        text=spec.text.spec(encoder.width) if spec.text is not None and encoder is not None else None,
        graph=spec.graph.spec(graph.hash) if spec.graph is not None and graph is not None else None,
    )
    return Materials(recipe=recipe, config=config, labels=labels, cohort=cohort, graph=graph, text_encoder=encoder)


def cross_validate(materials: Materials, folds: Sequence[Fold], work: Path, tell: Tell) -> OutOfFold:
    """Return the answers to every case from models that did not see its patient; finished folds are not done again."""
    trunk = _shared_trunk(materials, work, tell)
    answers = []
    for number, fold in enumerate(folds):
        stored = work / "folds" / f"{fold.name}.safetensors"
        if stored.is_file():
            tell(f"Fold {number + 1} of {len(folds)} was done before")
            answers.append(_load_fold(stored, fold))
            continue
        tell(f"Fold {number + 1} of {len(folds)}")
        seed = materials.recipe.seed + 1 + number
        plan = FitPlan(
            name=fold.name, train=fold.train, stop=_stop_rows(materials, fold.train, seed), test=fold.test,
            place=work / "fits" / fold.name, logs=work / "logs", seed=seed, trunk=trunk,
        )  # fmt: skip
        fitted = fit(materials, plan, tell)
        answers.append(FoldAnswers(fold=fold, logits=fitted.logits, overlaps=fitted.overlaps, epochs=fitted.epochs))
        if is_main_process():
            _store_fold(stored, answers[-1])
            shutil.rmtree(plan.place, ignore_errors=True)
    return join_folds(answers, materials.cohort)


def fit_everyone(materials: Materials, found: OutOfFold, work: Path, tell: Tell) -> Fitted:
    """Return the model fitted on all cases; with nobody left to say when to stop, as long as the median fold."""
    tell("Every case")
    everyone = np.arange(len(materials.cohort))
    plan = FitPlan(
        name="everyone", train=everyone, stop=NOBODY, test=NOBODY, place=work / "fits" / "everyone", logs=work / "logs",
        seed=materials.recipe.seed, trunk=_shared_trunk(materials, work, tell), epochs=found.epochs,
    )  # fmt: skip
    return fit(materials, plan, tell)


def _read(rows: Sequence[ManifestRow], recipe: Recipe, labels: Labels, store: Path, listener: Listener) -> Cohort:
    volume = recipe.model.volume
    reading = Reading(
        tasks=labels.tasks,
        preprocessing=volume.preprocessing if volume is not None and not volume.trunk_from else None,
        images=recipe.model.images.preprocessing if recipe.training.images and recipe.model.images else None,
        masks_label=recipe.leaks.mask_label,
        n_regions=len(volume.regions) if volume is not None else 0,
    )
    listener(Found(cases=len(rows), done_before=0))

    def done(number: int, total: int) -> None:
        listener(CaseDone(case_id=rows[number - 1].case, status="ok", done=number))

    return read_cohort(rows, reading, store, may_skip=recipe.data.may_skip, tell=done)


def _shared_trunk(materials: Materials, work: Path, tell: Tell) -> SliceUNet | None:
    """The trunk that all folds share, where the recipe says so; its finished checkpoint makes it cheap to ask twice."""
    volume = materials.recipe.model.volume
    if volume is None or (materials.recipe.validation.trunk != "shared" and not volume.trunk_from):
        return None
    everyone = np.arange(len(materials.cohort))
    plan = FitPlan(
        name="trunk", train=everyone, stop=NOBODY, test=NOBODY, place=work / "fits" / "trunk", logs=work / "logs",
        seed=materials.recipe.seed,
    )  # fmt: skip
    return fit_trunk(materials, plan, tell).trunk


def _stop_rows(materials: Materials, train: np.ndarray, seed: int) -> np.ndarray:
    """Those of the training rows that decide when to stop; nobody where neither step has patience."""
    recipe, cohort = materials.recipe, materials.cohort
    if not (recipe.training.where.patience or recipe.training.what.patience):
        return NOBODY
    strata = strata_of(cohort.rows, cohort.targets, recipe.validation.stratify)[train]
    return train[hold_out(cohort.patients[train], strata, recipe.validation.stop_share, seed)]


def _known_answers(cohort: Cohort, labels: Labels) -> list[dict[str, str]]:
    """Each case's labels by task, and nothing else of its row: they go into the model directory."""
    return [{task.name: row.labels.get(task.name, "") for task in labels.tasks} for row in cohort.rows]


def _store_fold(path: Path, answers: FoldAnswers) -> None:
    arrays = {f"logits.{name}": values for name, values in answers.logits.items()}
    arrays |= {f"epochs.{step}": np.array([count]) for step, count in answers.epochs.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = path.with_suffix(".tmp")
    save_file(
        {name: np.ascontiguousarray(values) for name, values in (arrays | {"overlaps": answers.overlaps}).items()}, torn
    )
    torn.replace(path)


def _load_fold(path: Path, fold: Fold) -> FoldAnswers:
    arrays = load_file(path)

    def with_prefix(prefix: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}

    return FoldAnswers(
        fold=fold,
        logits=with_prefix("logits."),
        overlaps=arrays["overlaps"],
        epochs={step: int(count[0]) for step, count in with_prefix("epochs.").items()},
    )


def _digest(recipe: Recipe, rows: Sequence[ManifestRow]) -> str:
    """SHA-256 of everything that the result depends on, but the content of the files themselves."""
    cases = [repr(row) for row in rows]
    return hashlib.sha256(json.dumps([recipe.model_dump_json(), cases]).encode()).hexdigest()


def _write_json(path: Path, values: object) -> None:
    write_atomic(path, (json.dumps(values, indent=1) + "\n").encode())
