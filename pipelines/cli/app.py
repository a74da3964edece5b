"""The commands of `medmm`, and the one place where errors become messages and exit codes."""

import logging
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from kg.errors import KgError
from medmm.errors import InputError, MedmmError, StopRun, UsageError
from pipelines.cli.check import check
from pipelines.cli.console import show_error
from pipelines.cli.deid import deid
from pipelines.cli.demo import demo
from pipelines.cli.diagnose import diagnose
from pipelines.cli.dicom import export_nifti
from pipelines.cli.doctor import doctor
from pipelines.cli.evaluate import evaluate
from pipelines.cli.kg import app as kg
from pipelines.cli.merge import merge
from pipelines.cli.models import models
from pipelines.cli.receive import receive
from pipelines.cli.report import report
from pipelines.cli.select import select
from pipelines.cli.send import send
from pipelines.cli.similar import similar
from pipelines.cli.train import train

EXIT_REFUSED, EXIT_USAGE, EXIT_STOPPED, EXIT_INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    name="medmm",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Log steps and tracebacks to stderr; they may name files.")
    ] = False,
) -> None:
    """From DICOM, reports and records to a diagnosis that can be checked.

    Research software, not a medical device.

    \b
    Start with:
      medmm check studies/         what is in there, and what would be refused
      medmm models list            the models there are
      medmm diagnose studies/ --model glioma-mri --out results/
    """
    if version:
        import medmm

        typer.echo(medmm.__version__)
        raise typer.Exit
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.ERROR, stream=sys.stderr, format="%(name)s: %(message)s"
    )
    logging.captureWarnings(True)  # those of libraries may show a value of a file
    logging.getLogger("medmm").setLevel(logging.DEBUG if debug else logging.ERROR)


app.command()(demo)
app.command()(check)
app.command()(diagnose)
app.command()(merge)
app.command()(train)
app.command()(evaluate)
app.command()(similar)
app.command()(select)
app.command()(report)
app.command("export-nifti")(export_nifti)
app.add_typer(models, name="models")
app.add_typer(kg, name="kg")
app.command()(deid)
app.command()(receive)
app.command()(send)
app.command()(doctor)


def main() -> None:
    """Run the command line; ends the process with the exit code of BAD_INPUTS.md."""
    signal.signal(signal.SIGINT, _interrupted)
    try:
        app()
    except StopRun as error:
        _end(error, EXIT_STOPPED)
    except (UsageError, KgError) as error:
        _end(error, EXIT_USAGE)
    except InputError as error:
        _end(error, EXIT_REFUSED)
    except Exception as error:  # noqa: BLE001  # a mistake of ours; its text may hold an identifier, so only its kind is said
        _end(_unforeseen(error), EXIT_STOPPED, error)


def _end(error: MedmmError | KgError, code: int, cause: Exception | None = None) -> None:
    show_error(error.message, error.remedy, error.code)
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        logging.getLogger(__name__).debug("where it was raised", exc_info=cause or error)
    sys.exit(code)


def _unforeseen(error: Exception) -> StopRun:
    return StopRun(
        f"An unexpected error of kind {type(error).__name__}.",
        code="internal.error",
        remedy="Run the same command again with `medmm --debug ...` and report the traceback, without patient data.",
    )


def _interrupted(number: int, frame: FrameType | None) -> None:
    sys.exit(EXIT_INTERRUPTED)
