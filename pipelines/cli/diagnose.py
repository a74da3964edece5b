"""`medmm diagnose`: options to a `Job`, events to the screen, the end to an exit code."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from pipelines.cli.console import RunView, show_error, stderr
from pipelines.cli.summary import show_counts, show_summary

if TYPE_CHECKING:
    from pipelines.config import RunConfig
    from pipelines.diagnose import Job
    from pipelines.events import RunSummary
    from pipelines.judge import ModelSource
    from pipelines.send import Delivery, Destination


def diagnose(
    folder: Annotated[Path, typer.Argument(help="Folder of DICOM studies; any layout, any file names.")],
    model: Annotated[str, typer.Option("--model", help="Name of a shipped model, or a model directory.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; made if missing.")],
    reports: Annotated[
        Path | None,
        typer.Option(help="Radiology reports: a folder of <PatientID or StudyUID>.txt, or a CSV with a text column."),
    ] = None,
    records: Annotated[
        Path | None, typer.Option(help="CSV of record fields (age_years, sex, ...) keyed by patient_id or study_uid.")
    ] = None,
    explain: Annotated[
        str, typer.Option(help="fast; full (the explanation tests itself, slower); none.", metavar="fast|full|none")
    ] = "fast",
    formats: Annotated[
        str,
        typer.Option(
            help="What to write per case, separated by commas: html, json, nii, txt (draft in words), pdf, fhir; into "
            "the patient's study, with its identity: seg, pm (heatmaps), sc (key slices), epdf (the PDF), sr."
        ),
    ] = "html,json,nii",
    lang: Annotated[str, typer.Option(help="Language of the reports: en or zh.")] = "en",
    include_report_text: Annotated[
        bool, typer.Option("--include-report-text", help="Show the words of the radiology report in the outputs.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, several with commas, or cuda:all.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that read ahead; 0 chooses.")] = 0,
    engine: Annotated[
        str, typer.Option(help="local, or ray: the workers of a Ray cluster (extra `ray`).", metavar="local|ray")
    ] = "local",
    shard: Annotated[str, typer.Option(help="Only part i of n of the studies, as i/n; see `medmm merge`.")] = "1/1",
    resume: Annotated[bool, typer.Option("--resume", help="Finish what an earlier run began.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run wrote.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until Ctrl-C: diagnose studies as they become complete.")
    ] = False,
    quiet_period: Annotated[
        float, typer.Option(min=0, help="With --watch: seconds without change after which a study is complete.")
    ] = 30.0,
    send_to: Annotated[
        str | None, typer.Option(metavar="AET@HOST:PORT", help="Send DICOM results (sr, seg, ...) there by C-STORE.")
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(help="File that remembers headers, so that later runs read new files only; it holds identifiers."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Rarer settings; may be repeated.")
    ] = None,
    id_key: Annotated[
        Path | None, typer.Option(help="File with the key of the opaque case ids; your own by default.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")] = False,
) -> None:
    """Diagnose every study of a folder and explain each answer.

    Writes results.csv (a row a case), index.html (the cohort), cases/<id>/report.html with heatmaps and masks beside
    it, failures.csv (why a case was refused) and run.json (versions, hashes, times). Names and ids are in id_map.csv
    alone, and in the DICOM and FHIR formats where asked for. A bad study never stops the rest.

    \b
    Examples:
      medmm diagnose studies/ --model glioma-mri --out results/
      medmm diagnose studies/ --model glioma-mri --out results/ \\
          --reports reports/ --records patients.csv
      # after Ctrl-C, a full disk or a crash: the same command with
      medmm diagnose studies/ --model glioma-mri --out results/ --resume
      # on one of eight machines; join the parts with `medmm merge`
      medmm diagnose studies/ --model glioma-mri --out part3/ --shard 3/8
      # what `medmm receive --out inbox/` takes in, until Ctrl-C
      medmm diagnose inbox/studies/ --model glioma-mri --out results/ --watch

    Exit codes: 0 all diagnosed, 1 some refused, 2 nothing started, 3 stopped, 130 Ctrl-C (both: go on with --resume).
    """
    from medmm.errors import UsageError
    from pipelines.config import RunLimits, build_limits, settings_from
    from pipelines.diagnose import Job
    from pipelines.judge import ModelSource
    from pipelines.send import parse_destination

    if overwrite and (watch or resume):
        option = "--watch" if watch else "--resume"
        raise UsageError(f"Expected {option} or --overwrite, not both.", code="config.output")
    given = settings_from(settings or ())
    config = _config_of(given, explain=explain, formats=formats, lang=lang, include_report_text=include_report_text)
    job = Job(
        folder=folder,
        output=out,
        reports=reports,
        records=records,
        config=config,
        limits=build_limits(**{key: value for key, value in given.items() if key in RunLimits.model_fields}),
        workers=workers or default_workers(),
        engine=parse_engine(engine),
        device=device,
        shard=parse_shard(shard),
        may_resume=resume,
        may_overwrite=overwrite,
        id_key=id_key,
        index=index,
    )
    destination = parse_destination(send_to) if send_to is not None else None
    raise typer.Exit(
        _run(job, ModelSource(model, config), destination, quiet_s=quiet_period if watch else None, is_quiet=quiet)
    )


def _config_of(given: dict[str, str], *, formats: str, **options: object) -> "RunConfig":
    """The settings that results depend on, from options and from `--set`."""
    from pipelines.config import RunConfig, build_config

    rarer = {key: value for key, value in given.items() if key in RunConfig.model_fields}
    names = tuple(filter(None, (name.strip() for name in formats.split(","))))
    return build_config(**{"formats": names, **options, **rarer})


def _run(
    job: "Job", load: "ModelSource", destination: "Destination | None", *, quiet_s: float | None, is_quiet: bool
) -> int:
    """Run a job, or watch its folder where there is a quiet period, and return the exit code."""
    from medmm.errors import StopRun
    from pipelines.diagnose import diagnose_folder
    from pipelines.engine import StopSwitch
    from pipelines.send import send_results
    from pipelines.watch import Watch, diagnose_watching

    def send_back(summary: "RunSummary") -> None:
        if destination is not None:
            tell_delivery(lambda: send_results(summary.output, destination), is_quiet=is_quiet)

    def end_round(summary: "RunSummary") -> None:
        if not is_quiet:
            show_counts(summary)
        send_back(summary)

    switch = StopSwitch()
    try:
        with RunView(is_quiet=is_quiet) as view:
            if quiet_s is not None:  # until a signal, which ends in StopRun
                diagnose_watching(job, load, Watch(quiet_s=quiet_s), view, end_round, switch)
            summary = diagnose_folder(job, load, view, switch)
    except StopRun as error:
        if quiet_s is None or error.code != "run.interrupted":  # a signal is how watching ends
            show_error(error.message, error.remedy, error.code)
        return switch.exit_code
    if not is_quiet:
        show_summary(summary)
    send_back(summary)
    return summary.exit_code


def tell_delivery(deliver: Callable[[], "Delivery"], *, is_quiet: bool) -> None:
    """Send results back and say how it went; a node that is down costs no result."""
    from medmm.errors import UsageError

    try:
        delivery = deliver()
    except UsageError as error:
        show_error(error.message, "The results are kept; `medmm send` sends them later.", error.code)
        return
    if delivery.left or not is_quiet:
        stderr().print(f"{delivery.taken} DICOM results sent, {delivery.left} not taken.")


def default_workers() -> int:
    """Half of the processors, at most 8: the model needs the others."""
    return max(1, min(8, (os.cpu_count() or 2) // 2))


def parse_engine(text: str) -> Literal["local", "ray"]:
    """Return the name of an engine.

    Raises:
        UsageError: `config.key`.
    """
    from medmm.errors import UsageError

    if text in ("local", "ray"):
        return cast('Literal["local", "ray"]', text)
    raise UsageError("Expected --engine local or ray.", code="config.key")


def parse_shard(text: str) -> tuple[int, int]:
    """Return `i/n` as two numbers, 1 <= i <= n.

    Raises:
        UsageError: `config.key`.
    """
    from medmm.errors import UsageError

    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) <= 1_000_000:
        return int(number), int(count)
    raise UsageError("Expected --shard i/n with 1 <= i <= n, for example 3/8.", code="config.key")
