"""Texts of reports by language: one TOML file each, the same keys in all.

What a diagnosis says in sentences of its own (notes, reasons, tests) is kept in English, the language of `case.json`,
and put into another language where it is shown, by a file of English sentences and their translations.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from medmm.errors import CODES

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
_FOLDER = Path(__file__).parent
_BRACES = re.compile(r"\\{(\w+)\\}")  # of an escaped sentence


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence in a reader's language; `original` is English that could not be translated in all its detail."""

    text: str
    original: str = ""


@dataclass(frozen=True, slots=True)
class _Translation:
    """What an English sentence looks like, and its translation with the same names in braces."""

    pattern: re.Pattern[str]
    text: str


class Texts:
    """The texts of one language: `texts("summary.close", second=..., value=...)`."""

    def __init__(self, language: Language, table: dict[str, Any], translations: tuple[_Translation, ...] = ()) -> None:
        self.language = language
        self._table = table
        self._translations = translations

    def __call__(self, key: str, **values: object) -> str:
        """The text of `section.name` with its braces filled in; KeyError where either is missing."""
        section, name = key.split(".")
        return str(self._table[section][name]).format(**values)

    def items(self, key: str) -> list[str]:
        """The list of texts of `section.name`."""
        section, name = key.split(".")
        return list(self._table[section][name])

    def section(self, name: str) -> dict[str, str]:
        """All texts of a section, braces unfilled (for the viewer's script)."""
        return dict(self._table[name])

    def known(self, section: str, name: str) -> str:
        """The text of a word that data brings (`present`, `volume`), or the word itself where there is none."""
        return str(self._table[section].get(name, name))

    def said(self, sentence: str, code: str = "") -> Said:
        """A sentence that a diagnosis or a run said in English, in this language.

        Without a translation of its own it is told by what its `code` means, the English beside it.
        """
        if self.language == "en" or not sentence:
            return Said(sentence)
        own = self._translated(sentence)
        if own is not None:
            return Said(own)
        general = self._translated(CODES.get(code, ""))
        return Said("", sentence) if general is None else Said(general, sentence)

    def told(self, sentence: str, code: str = "") -> str:
        """The same as plain text."""
        said = self.said(sentence, code)
        return f"{said.text} {said.original}".strip()

    def _translated(self, sentence: str) -> str | None:
        for translation in self._translations:
            found = translation.pattern.fullmatch(sentence)
            if found is not None:
                values = {name: self.known("role", value) for name, value in found.groupdict().items()}
                return translation.text.format(**values)
        return None


@cache
def load_texts(language: str) -> Texts:
    """The texts of a language.

    Raises:
        ValueError: If there are none.
    """
    for known in LANGUAGES:
        if language == known:
            table = tomllib.loads((_FOLDER / f"{known}.toml").read_text(encoding="utf-8"))
            return Texts(known, table, _translations(known))
    raise ValueError(f"Expected one of {', '.join(LANGUAGES)} (got {language!r}).")


def _translations(language: Language) -> tuple[_Translation, ...]:
    if language == "en":
        return ()
    table = tomllib.loads((_FOLDER / f"sentences.{language}.toml").read_text(encoding="utf-8"))
    return tuple(_Translation(_pattern(sentence), text) for sentence, text in table.items())


def _pattern(sentence: str) -> re.Pattern[str]:
    return re.compile(_BRACES.sub(r"(?P<\1>.+?)", re.escape(sentence)), re.DOTALL)
