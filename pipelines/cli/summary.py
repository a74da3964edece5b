"""What a run came to, for people: counts, where to look, where the time went."""

from pipelines.cli.console import stdout
from pipelines.cli.tables import show_table
from pipelines.events import RunSummary


def show_counts(summary: RunSummary) -> None:
    """How many cases ended how."""
    counts = f"{summary.ok} ok, {summary.warned} with warnings, {summary.refused} refused"
    stdout().print(f"{summary.cases} cases: {counts}, in {summary.seconds:.1f} s.", soft_wrap=True)


def show_summary(summary: RunSummary) -> None:
    """The counts, where to look, and where the time went."""
    console = stdout()
    show_counts(summary)
    for code, count in sorted(summary.refusals.items()):
        console.print(f"  {count} x {code}")
    if summary.stages:
        header = ("stage", "cases", "total s", "s a case")
        rows = [
            (name, f"{values['cases']:.0f}", f"{values['total_s']:.1f}", f"{values['mean_s']:.3f}")
            for name, values in summary.stages.items()
        ]
        show_table(header, rows, right=header[1:])
    console.print(f"Peak memory {summary.peak_memory_mib:.0f} MiB.")
    names = "index.html (the cohort), results.csv" + (", failures.csv (why)" if summary.refused else "")
    console.print(f"Look into {summary.output}: {names}.", soft_wrap=True)
