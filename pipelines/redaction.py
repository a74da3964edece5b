"""Known identifiers of a run are taken out of log lines and tracebacks, whoever writes them.

Messages of medmm name no patient; those of libraries, and of errors that nobody foresaw, may. A word is compared as a
whole and without regard to case, so that the time a line takes does not depend on how many patients there are.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medmm.cases import CasePlan

REDACTED = "[redacted]"
SHORTEST = 3
_WORD = re.compile(r"[^\s/\\'\"()\[\]{}<>,;:=^|]+")
_FORMATTER = logging.Formatter()


class Redactor(logging.Filter):
    """Lets every record pass, without the words it knows."""

    def __init__(self, words: Iterable[str]) -> None:
        super().__init__()
        self.words = frozenset(
            part.casefold() for word in words for part in _WORD.findall(word) if len(part) >= SHORTEST
        )

    def redact(self, text: str) -> str:
        """Return `text` with every known word replaced."""
        return _WORD.sub(self._replace, text)

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite message and traceback in place."""
        record.msg, record.args = self.redact(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = self.redact(record.exc_text or _FORMATTER.formatException(record.exc_info))
        return True

    def _replace(self, match: re.Match[str]) -> str:
        word = match[0].casefold()
        return REDACTED if word in self.words or word.strip(".!?-_*#") in self.words else match[0]


def identifiers(plans: Iterable["CasePlan"]) -> Iterator[str]:
    """Yield what the studies say of whose they are, and the folders and names of their files."""
    for plan in plans:
        if plan.study is not None:
            study = plan.study
            yield from (study.patient_id, study.patient_name, study.birth_date, study.study_date, study.study_uid)
        for path in (*plan.files, *plan.broken_files.values()):
            yield path.stem
            yield path.name
            yield path.parent.name


@contextmanager
def redacting(words: Iterable[str]) -> Iterator[None]:
    """Take `words` out of everything that the handlers of the root logger write meanwhile."""
    handlers, redactor = list(logging.getLogger().handlers), Redactor(words)
    for handler in handlers:
        handler.addFilter(redactor)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(redactor)
