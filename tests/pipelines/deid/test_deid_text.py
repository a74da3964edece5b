"""Free text: what the rules take out, what they leave, and that no identifier passes by its look."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.deidentify.text import Scrubber, identifiers_of

PLAIN = Scrubber(vocabulary=frozenset({"glioma", "kidney", "hemorrhage", "enhancement"}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Seen by Dr. Quux today", "Seen by [NAME]"),
        ("PATIENT NAME: Quux Jane", "PATIENT NAME: [REMOVED]"),
        ("Electronically signed by Jane Quux, MD", "Electronically signed by [REMOVED]"),
        ("exam of 03/04/2020 at 10:15 am", "exam of [DATE] at [TIME]"),
        ("on 4 March 2020 and March 5, 2021", "on [DATE] and [DATE]"),
        ("call 555-123-4567 or a.b@c.org", "call [PHONE] or [ADDRESS]"),
        ("number 12345678 and AB12345X", "number [NUMBER] and [NUMBER]"),
        ("a 93-year-old woman", "a [90+]-year-old woman"),
        ("a 63-year-old woman", "a 63-year-old woman"),
        ("Quuxville is where Jane lives", "[NAME] is where [NAME] lives"),
    ],
)
def test_what_looks_like_an_identifier_is_taken_out(text: str, expected: str) -> None:
    assert PLAIN.report(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Glioma of 23 x 14 mm with hemorrhage; TE 90 ms, T2/FLAIR signal.",
        "FINDINGS:\nNo mass. The left kidney is normal.",
        "Enhancement after contrast: 12.5 mm, b = 1000 s/mm2, TR 2000 ms.",
    ],
)
def test_medical_sentences_stay_as_they_are(text: str) -> None:
    assert PLAIN.report(text) == text


def test_known_identifiers_go_in_any_case_and_place() -> None:
    known = identifiers_of(["Quux^Jane Mary"], ["H-4711 B", "ab"])

    scrubbed = Scrubber(known=known).report("quux (jane, MARY) has id h-4711 b and ab")

    assert scrubbed == "[ID] ([ID], [ID]) has id [ID] and ab"


@given(st.text(max_size=300))
def test_any_text_can_be_scrubbed_and_no_long_number_is_left(text: str) -> None:
    scrubbed = PLAIN.report(text + " 123456789")

    assert "123456789" not in scrubbed


@given(st.text(max_size=100))
def test_a_description_holds_words_of_the_allow_list_only(text: str) -> None:
    assert "quux" not in PLAIN.description(f"AX {text} quux").lower().split()
