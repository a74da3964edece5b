"""Which test covers which bad input or fault, and how it ended: the table in docs/reliability.md.

    python -m tests.reliability          run the marked tests and write the page
    python -m tests.reliability --new    run those that the page does not know as passed, keep its other outcomes
    python -m tests.reliability --names  run nothing: the names of today and the outcomes the page has already

Rows are in bad_inputs.tsv; a test says what it is about with `@pytest.mark.bad_input("H3")`.
"""

import ast
import csv
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- table of tests: made by python -m tests.reliability -->", "<!-- end of the table -->"
SECTIONS = {
    "A": "DICOM files",
    "B": "Pixels",
    "C": "Series and geometry",
    "D": "Identity and text from tags",
    "E": "Reports",
    "F": "Knowledge graph",
    "G": "Models and configuration",
    "H": "Faults",
    "I": "Outputs, privacy, repeatability",
}
NOT_RUN = "not run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One requirement: what comes in, what must happen, and the code it gets."""

    name: str
    given: str
    must: str
    code: str


def read_rows() -> tuple[Row, ...]:
    """All rows, in order."""
    with (TESTS / "bad_inputs.tsv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    return tuple(Row(name=name, given=given, must=must, code=code) for name, given, must, code in lines)


def find_tests() -> dict[str, list[str]]:
    """Tests by row, as `folder/file.py::function`, found in the source, so that nothing is imported."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        source = path.read_text(encoding="utf-8")
        if "bad_input" not in source:
            continue
        tree = ast.parse(source)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for row in sorted(set(_marked(node.decorator_list))):
                    found[row].append(f"{path.relative_to(TESTS).as_posix()}::{node.name}")
    return dict(found)


def _marked(decorators: Iterable[ast.expr]) -> Iterator[str]:
    for node in (inner for decorator in decorators for inner in ast.walk(decorator)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "bad_input":
            yield from (str(ast.literal_eval(argument)) for argument in node.args)


class Outcomes:
    """A pytest plugin that keeps how each test function ended: the worst of its parameters counts."""

    ORDER = ("passed", "skipped", "failed")

    def __init__(self) -> None:
        self.of: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take one report in; setup and teardown count when they do not pass."""
        if report.when != "call" and report.outcome == "passed":
            return
        name = report.nodeid.partition("[")[0].removeprefix("tests/")
        known = self.of.get(name, "passed")
        self.of[name] = max(known, report.outcome, key=self.ORDER.index)


def run(names: Iterable[str]) -> dict[str, str]:
    """Run tests, slow ones too, and return how each ended."""
    outcomes = Outcomes()
    pytest.main(["-q", "-m", "slow or not slow", *(f"{TESTS}/{name}" for name in names)], plugins=[outcomes])
    return outcomes.of


def table(tests: Mapping[str, list[str]], outcomes: Mapping[str, str]) -> str:
    """The generated part of the page."""
    lines = []
    rows = read_rows()
    for letter, title in SECTIONS.items():
        lines += [
            f"### {letter}. {title}",
            "",
            "| row | given | what happens | code | tests |",
            "|---|---|---|---|---|",
        ]
        for row in (row for row in rows if row.name[0] == letter):
            cells = [f"`{name.rpartition('/')[2]}` {outcomes.get(name, NOT_RUN)}" for name in tests.get(row.name, [])]
            code = ", ".join(f"`{code}`" for code in row.code.split(", ")) if row.code else ""
            lines.append(f"| {row.name} | {row.given} | {row.must} | {code} | {'<br>'.join(cells) or 'none'} |")
        lines.append("")
    return "\n".join(lines)


def summary(tests: Mapping[str, list[str]], outcomes: Mapping[str, str]) -> str:
    """How many rows have a test and how the tests ended, in a sentence."""
    covered = sum(bool(tests.get(row.name)) for row in read_rows())
    names = {name for names in tests.values() for name in names}
    counts = Counter(outcomes.get(name, NOT_RUN) for name in names)
    ended = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    return f"{covered} of {len(read_rows())} rows have tests; {len(names)} test functions: {ended}."


def listed_tests(page: str) -> dict[str, set[str]]:
    """Tests that the page names for each row, as `file.py::function`."""
    rows = re.findall(r"^\| ([A-I]\d+) \|.*\| ([^|]*) \|$", page, re.MULTILINE)
    return {row: set(re.findall(r"`([^`]+::[^`]+)`", cell)) for row, cell in rows}


def known_outcomes(page: str, tests: Mapping[str, list[str]]) -> dict[str, str]:
    """Outcomes that the page has for tests of today."""
    short = {name.rpartition("/")[2]: name for names in tests.values() for name in names}
    pairs = re.findall(r"`([^`|]+::[^`|]+)` (passed|skipped|failed)", page)
    return {short[name]: outcome for name, outcome in pairs if name in short}


def write_page(page: str, tests: Mapping[str, list[str]], outcomes: Mapping[str, str]) -> str:
    """The page with its table made anew."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{summary(tests, outcomes)}\n\n{table(tests, outcomes)}{END}{after}"


def main() -> None:
    """Write the page."""
    page, tests = PAGE.read_text(encoding="utf-8"), find_tests()
    names = sorted({name for names in tests.values() for name in names})
    outcomes = {} if len(sys.argv) == 1 else known_outcomes(page, tests)
    if "--names" not in sys.argv[1:]:
        outcomes |= run(name for name in names if outcomes.get(name) != "passed")
    PAGE.write_text(write_page(page, tests, outcomes), encoding="utf-8")
    print(summary(tests, outcomes))  # noqa: T201  # a script


if __name__ == "__main__":
    main()
