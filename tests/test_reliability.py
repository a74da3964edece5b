"""docs/reliability.md says which test covers which bad input or fault."""

from reliability import PAGE, find_tests, known_outcomes, listed_tests, read_rows, write_page


def test_every_row_of_the_requirements_has_a_test() -> None:
    tests = find_tests()

    assert {row.name for row in read_rows()} == set(tests)


def test_the_page_lists_every_row_with_tests_that_exist() -> None:
    page, tests = PAGE.read_text(encoding="utf-8"), find_tests()
    listed = listed_tests(page)
    short = {row: {name.rpartition("/")[2] for name in names} for row, names in tests.items()}

    assert list(listed) == [row.name for row in read_rows()]
    assert all(listed.values())
    # Tests may be added before the page is made anew; what the page names has to be there.
    gone = {row: names - short.get(row, set()) for row, names in listed.items()}
    assert {row for row, names in gone.items() if names} == set(), "run: python -m tests.reliability"


def test_a_page_that_is_made_anew_keeps_the_outcomes_it_has() -> None:
    page, tests = PAGE.read_text(encoding="utf-8"), find_tests()

    again = write_page(page, tests, known_outcomes(page, tests))

    assert known_outcomes(again, tests) == known_outcomes(page, tests)
    assert write_page(again, tests, known_outcomes(again, tests)) == again


def test_no_test_on_the_page_failed() -> None:
    page, tests = PAGE.read_text(encoding="utf-8"), find_tests()

    assert "failed" not in known_outcomes(page, tests).values()
