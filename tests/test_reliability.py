"""docs/reliability.md says which test covers which bad input or fault."""

from reliability import PAGE, find_tests, known_outcomes, read_rows, write_page

# Sections A to C are held by the tests of `medmm.dicom`.
HELD_HERE = "DEFGHI"
NOT_BUILT_YET = {"I5"}  # DICOM outputs


def test_every_row_of_the_requirements_has_a_test() -> None:
    tests = find_tests()

    assert [row.name for row in read_rows() if row.name[0] in HELD_HERE and not tests.get(row.name)] == sorted(
        NOT_BUILT_YET
    )
    assert set(tests) <= {row.name for row in read_rows()}


def test_the_page_is_up_to_date() -> None:
    page, tests = PAGE.read_text(encoding="utf-8"), find_tests()

    assert write_page(page, tests, known_outcomes(page, tests)) == page, "run: python -m tests.reliability --names"


def test_no_test_on_the_page_failed() -> None:
    page, tests = PAGE.read_text(encoding="utf-8"), find_tests()

    assert "failed" not in known_outcomes(page, tests).values()
