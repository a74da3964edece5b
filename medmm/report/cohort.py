"""`index.html`: the cohort's cases in a table that sorts and filters, what was refused, answers counted, the run."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from medmm.report.files import write_atomic
from medmm.report.texts import Texts, load_texts
from medmm.types import Titles

Row = Mapping[str, str | float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """A task's cell of a case."""

    text: str
    probability: float | None
    answers: str
    abstained: bool


# A browser shows a table of this size within seconds; of larger cohorts the page lists what needs attention first.
PAGE_CASES = 20_000
_ATTENTION = {"refused": 0, "warn": 1, "ok": 2}


def write_index(
    out_dir: str | Path,
    rows: Sequence[Row],
    run: Mapping[str, object],
    *,
    titles: Titles | None = None,
    failures: Sequence[Mapping[str, str]] = (),
    lang: str = "en",
) -> Path:
    """Write `index.html` into `out_dir`; links lead to `cases/<case>/report.html`.

    Args:
        out_dir: The run's folder.
        rows: As from `result_row` and `refused_row`, every case of the run.
        run: What `run.json` says; nested tables are shown as `outer.inner`.
        titles: What people read for the names of questions and answers, as from `Labels.titles`; without it, the names.
        failures: Rows of `failures.csv` (`case`, `stage`, `code`, `reason`, `remedy`; other columns are not shown).
        lang: `en` or `zh`.
    """
    from medmm.report.document import SCHEMA_VERSION
    from medmm.report.pages import render_page

    texts = load_texts(lang)
    words = _Words(titles or {})
    tasks = _task_names(rows)
    counts = Counter(str(row.get("status", "")) for row in rows)
    shown = rows
    if len(rows) > PAGE_CASES:
        shown = sorted(rows, key=lambda row: _ATTENTION.get(str(row.get("status", "")), 0))[:PAGE_CASES]
        run = {**run, texts("cohort.on_page"): texts("cohort.first_cases", shown=PAGE_CASES, count=len(rows))}
    page = render_page(
        "cohort.html.j2",
        style="style.css",
        scripts=("cohort.js",),
        t=texts,
        counts={"ok": counts["ok"] + counts["warn"], "warned": counts["warn"], "refused": counts["refused"]},
        total=len(rows),
        tasks=[words.task(name) for name in tasks],
        cases=[_case(row, tasks, words, texts) for row in shown],
        failures=failures[:PAGE_CASES],
        distributions=[(words.task(task), _distribution(task, words, rows)) for task in tasks],
        facts=list(_facts(run)),
        schema=SCHEMA_VERSION,
    )
    return write_atomic(Path(out_dir) / "index.html", page.encode("utf-8", errors="replace"))


@dataclass(frozen=True, slots=True)
class _Words:
    """Titles where there are some, else the names with spaces."""

    titles: Titles

    def task(self, name: str) -> str:
        return self.titles[name]["title"] if name in self.titles else name.replace("_", " ")

    def answer(self, task: str, name: str) -> str:
        known = self.titles[task]["classes"] if task in self.titles else {}
        return known.get(name, name.replace("_", " "))


def _task_names(rows: Sequence[Row]) -> list[str]:
    """Tasks in the order of their first appearance: the columns that have a `.probability` beside them."""
    names = (column.removesuffix(".probability") for row in rows for column in row if column.endswith(".probability"))
    return list(dict.fromkeys(names))


def _case(row: Row, tasks: list[str], words: _Words, texts: Texts) -> dict[str, object]:
    case_id, status = str(row.get("case", "")), str(row.get("status", ""))
    flags = [texts("cohort.outside")] if row.get("outside_training") == "true" else []
    if row.get("abstained") == "true":
        flags.append(texts("cohort.abstained"))
    return {
        "id": case_id,
        # Quoted, so that an id can never leave the folder or turn into another kind of link.
        "link": None if status == "refused" else f"cases/{quote(case_id, safe='')}/report.html",
        "status": texts.known("cohort", status),
        "answers": [_answer(row, task, words) for task in tasks],
        "flags": flags,
        "codes": str(row.get("codes", "")),
    }


def _answer(row: Row, task: str, words: _Words) -> _Answer | None:
    if row.get(task) in (None, ""):
        return None
    probability = row.get(f"{task}.probability")
    return _Answer(
        text=words.answer(task, str(row[task])),
        probability=float(probability) if probability not in (None, "") else None,
        answers=", ".join(words.answer(task, name) for name in str(row.get(f"{task}.set", "")).split("|")),
        abstained=row.get(f"{task}.abstained") == "true",
    )


def _distribution(task: str, words: _Words, rows: Sequence[Row]) -> list[dict[str, object]]:
    """How often each answer was given, abstentions apart; bars are relative to the commonest."""
    from medmm.report.svg import bar_width

    answers = [_answer(row, task, words) for row in rows]
    given = Counter(None if answer.abstained else answer.text for answer in answers if answer is not None)
    ranked = sorted(given.items(), key=lambda item: (-item[1], item[0] or ""))
    most = ranked[0][1] if ranked else 1
    return [{"answer": answer, "count": count, "bar": bar_width(count / most)} for answer, count in ranked]


def _facts(run: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in run.items():
        if isinstance(value, Mapping):
            yield from _facts(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{name}", ", ".join(str(part) for part in value)
        elif value is not None:
            yield f"{prefix}{name}", str(value)
