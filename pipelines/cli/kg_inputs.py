"""What the commands of `medmm kg` are given: a text, a concept, sources, a place to write."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from medmm.errors import UsageError
from pipelines.cli.console import one_line, stderr

if TYPE_CHECKING:
    from kg import KnowledgeGraph

# What ends like a document, or is one word that leads through folders; nobody writes a report so ("CT/MR" is text).
_PATH = re.compile(
    r"[^\n]+\.(?:txt|text|md|csv|tsv|jsonl?|xml|html?|rtf|pdf|docx?|odt|dcm)|(?:[.~]{0,2}/|\.{0,2}\\|[A-Za-z]:[/\\])\S+",
    re.IGNORECASE,
)
_LONGEST_PATH = 1024
_NEAR = 0.7


def open_graph(path: Path | None) -> "KnowledgeGraph":
    """Return the graph of a file, or the built-in one."""
    import kg

    return kg.load_default() if path is None else kg.read(path)


def read_text(argument: str) -> str:
    """Return the text that an argument is or, where a file of that name exists, names; `-` is standard input.

    What was done to a report (decoded, cut) is said as a warning.

    Raises:
        UsageError: `io.unreadable` where the argument names no file but reads like one; `report.empty` where there is
            nothing to read.
        InputError: `report.format` where the file is not text.
    """
    from medmm.report_reading import read_report, read_report_bytes, report_from_text

    if argument == "-":
        report = read_report_bytes(sys.stdin.buffer.read())
    elif _exists(argument):
        report = read_report(Path(argument))
    elif len(argument) < _LONGEST_PATH and _PATH.fullmatch(argument):
        raise UsageError(
            "Expected a text, or a file that exists (the argument reads like a file's name, and there is none).",
            code="io.unreadable",
            remedy="Check the path. To link these very words, pipe them in: echo '/edema' | medmm kg link -",
        )
    else:
        report = report_from_text(argument)
    if not report.text.strip():
        raise UsageError(
            "Expected a text (got nothing).", code="report.empty", remedy="Pass a report's text, its file, or -."
        )
    for note in report.notes:
        stderr().print(f"warning: {one_line(note.message)} ({note.code})", soft_wrap=True)
    return report.text


def _exists(argument: str) -> bool:
    try:
        return "\0" not in argument and bool(argument) and Path(argument).exists()
    except OSError:  # a text can be longer than a file name may be
        return False


def resolve_concept(graph: "KnowledgeGraph", text: str) -> str:
    """Return a CURIE of the graph as it is, else the concept of that name.

    Raises:
        UsageError: `kg.no_match`, with the names that read most alike.
    """
    from kg.text.linker import linker_for

    if text in graph:
        return graph.id(graph.index(text))
    found = linker_for(graph).lookup(text)
    if found is None:
        names = {graph.name(at).lower(): graph.name(at) for at in range(graph.n_concepts)}
        near = "; ".join(names[one] for one in get_close_matches(text.lower(), names, 3, _NEAR))
        raise UsageError(
            f"Expected the name or id of a concept of the graph (got {one_line(text)[:80]!r}).",
            code="kg.no_match",
            remedy=f"Near it: {near}." if near else "`medmm kg link TEXT` shows which concepts a text names.",
        )
    return found


def split_sources(given: Sequence[str]) -> list[str]:
    """Return names and files of an option that may be given several times, each time with commas; a file's own stay."""
    return [
        part.strip()
        for one in given
        for part in ([one] if "," in one and Path(one).exists() else one.split(","))
        if part.strip()
    ]


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Turn the system's refusal to write into an error that says so.

    Raises:
        UsageError: `config.output`.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"Expected to be able to write {one_line(out.name)} ({error.strerror or type(error).__name__}).",
            code="config.output",
            remedy="Choose another file or folder.",
        ) from error
