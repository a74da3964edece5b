"""Texts of reports by language: one TOML file each, the same keys in all."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


class Texts:
    """The texts of one language: `texts("summary.close", second=..., value=...)`."""

    def __init__(self, language: Language, table: dict[str, Any]) -> None:
        self.language = language
        self._table = table

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


@cache
def load_texts(language: str) -> Texts:
    """The texts of a language.

    Raises:
        ValueError: If there are none.
    """
    for known in LANGUAGES:
        if language == known:
            table = tomllib.loads(Path(__file__).with_name(f"{known}.toml").read_text(encoding="utf-8"))
            return Texts(known, table)
    raise ValueError(f"Expected one of {', '.join(LANGUAGES)} (got {language!r}).")
