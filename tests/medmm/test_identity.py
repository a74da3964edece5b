"""Opaque ids: keyed, stable, never joined by accident, and a key that only its owner can read."""

import stat
from pathlib import Path

import pytest

from medmm.errors import UsageError
from medmm.identity import load_key, opaque_id, shard_of

KEY = bytes(range(32))


def test_an_id_needs_the_key() -> None:
    assert opaque_id("case", KEY, "1.2", "A") == opaque_id("case", KEY, "1.2", "A")
    assert opaque_id("case", KEY, "1.2", "A") != opaque_id("case", KEY[::-1], "1.2", "A")


@pytest.mark.bad_input("D2")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "bc"), ("ab", "c")),
        (("a",), ("A",)),
        (("a ",), ("a",)),
        (("", "a"), ("a", "")),
        (("\u00e9",), ("e\u0301",)),
    ],
)
def test_ids_that_look_alike_stay_apart(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert opaque_id("case", KEY, *one) != opaque_id("case", KEY, *other)


@pytest.mark.bad_input("D1")
@pytest.mark.parametrize(
    "text", ["../../x", "/abs", "C:\\x", "CON", "a/b", "\0", "\n", "x" * 5000, "🧠", "\u202e", "\ud800"]
)
def test_an_id_is_a_safe_name_whatever_it_was_made_of(text: str) -> None:
    name = opaque_id("case", KEY, text)

    assert name.startswith("case-")
    assert len(name) == 17
    assert name[5:].isalnum()


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    place = tmp_path / "config" / "id_key"

    first, second = load_key(place), load_key(place)

    assert first == second
    assert len(first) == 32
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert [path.name for path in place.parent.iterdir()] == ["id_key"]


def test_a_key_that_is_short_or_in_an_impossible_place_is_wrong_usage(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_bytes(b"abc")

    with pytest.raises(UsageError, match="32 bytes"):
        load_key(short)
    with pytest.raises(UsageError, match="neither read nor made"):
        load_key(short / "inside-a-file")


def test_shards_cover_every_study_once_and_evenly() -> None:
    shards = [shard_of(f"1.2.{number}", 4) for number in range(4000)]

    counts = [shards.count(number) for number in range(1, 5)]
    assert sum(counts) == 4000
    assert min(counts) > 900
