"""The page of codes says what the code says."""

from pathlib import Path

from medmm.errors import CODES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"


def test_every_code_is_documented_and_no_other() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]

    assert rows == [f"| `{code}` | {meaning} |" for code, meaning in CODES.items()]
