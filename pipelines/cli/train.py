"""`medmm train`: a recipe and a manifest to a model directory."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file that says what to learn from what; an example is below.")],
    out: Annotated[Path, typer.Option("--out", help="The model directory to write.")],
    manifest: Annotated[
        Path | None, typer.Option(help="CSV of the cases, instead of the one that the recipe names.")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints, folds and logs; OUT.work by default.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read recipe and cases, look for leaks, and stop before training.")
    ] = False,
    allow_leak: Annotated[
        list[str] | None,
        typer.Option(help="Go on in spite of leaks of this kind: patient, volume, image, report or label."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Work folder of another training, to compare out-of-fold answers with by paired bootstrap."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Finish what an earlier run began.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew and replace what is there.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")] = False,
) -> None:
    """Train a model and measure it by cross-validation, patients kept apart.

    A leak guard comes first and refuses by default: one patient under two names, equal or nearly equal series or
    reports in different patients, a report that names its own label. Then every fold learns where (a U-Net, from
    masks) and what (fusion of volume, report, record and graph); early stopping looks at a part of the fold's own
    training patients. The final model learns from every case and is calibrated on the out-of-fold answers. Its card
    states data, figures with intervals, limits and cost.

    \b
    A recipe:
      name = "my-model"
      [data]
      manifest = "cases.csv"            # relative to the recipe; see `medmm evaluate --help`
      [model]
      record = ["age_years", "sex"]     # columns record.age_years and record.sex
      [model.graph]                     # the default knowledge graph
      [model.volume]
      preprocessing = { roles = ["flair", "t1"], reference_order = ["flair", "t1"] }
      regions = [{ name = "tumour", title = "Tumour" }]
      [[tasks]]
      name = "grade"                    # column label.grade
      kind = "ordinal"
      classes = ["G2", "G3"]
      [training.where]
      epochs = 26
      patience = 5                      # stop early; 0 never
      [training.what]
      epochs = 40
    \b
    Examples:
      medmm train recipe.toml --out my-model/ --check
      medmm train recipe.toml --out my-model/
      medmm train recipe.toml --out my-model/ --resume        # after a kill: the same weights
      torchrun --nproc_per_node=4 -m pipelines.cli train recipe.toml --out my-model/
      medmm diagnose studies/ --model my-model/ --out results/

    Curves are in OUT.work/logs (tensorboard --logdir OUT.work/logs), out-of-fold answers in OUT.work/predictions.csv.
    """
    from typing import get_args

    from medmm.errors import UsageError
    from pipelines.cli.console import RunView, stdout
    from pipelines.cli.tables import show_table
    from pipelines.evaluation.page import show_estimate
    from pipelines.training.recipe import LeakKind
    from pipelines.training.run import TrainJob
    from pipelines.training.run import train as run
    from pipelines.training.trainer import is_main_process

    unknown = sorted(set(allow_leak or ()) - set(get_args(LeakKind)))
    if unknown:
        raise UsageError(f"Expected --allow-leak {', '.join(get_args(LeakKind))}.", code="config.key")
    if resume and overwrite:
        raise UsageError("Expected --resume or --overwrite, not both.", code="config.output")
    job = TrainJob(
        recipe=recipe,
        output=out,
        manifest=manifest,
        work=work,
        allow_leaks=tuple(allow_leak or ()),  # type: ignore[arg-type]  # checked above
        may_resume=resume,
        may_overwrite=overwrite,
        only_check=check,
        against=against,
    )
    quiet = quiet or not is_main_process()  # under torchrun one process speaks for all
    with RunView(is_quiet=quiet) as view:
        result = run(job, view)
    if quiet:
        return
    console = stdout()
    if check:
        console.print(
            f"{result.n_cases} cases of {result.n_patients} patients, {result.n_folds} folds, no leak that was not "
            "allowed. Ready to train."
        )
        return
    rows = [
        (name, metric, show_estimate(estimate), str(estimate.n))
        for name, metrics in result.metrics.items()
        for metric, estimate in metrics.items()
    ]
    show_table(("task", "metric", "out of fold (95% interval)", "patients"), rows, whole=("task",), right=("patients",))
    for name, comparison in result.comparisons.items():
        gap = comparison.differences[comparison.primary]
        verdict = "" if comparison.is_distinguishable else ": not distinguishable"
        console.print(f"{name}: {comparison.primary} {gap.value:+.3f} against the other (95% {gap.low:+.3f} to "
                      f"{gap.high:+.3f}){verdict}")  # fmt: skip
    console.print(f"Wrote {out}; read {out / 'README.md'}.", soft_wrap=True)
