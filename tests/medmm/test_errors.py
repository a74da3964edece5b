"""Errors carry a known code, and survive a process border with it."""

import pickle

import pytest

from medmm.errors import InputError, MedmmError


def test_unknown_code_is_refused() -> None:
    with pytest.raises(ValueError, match=r"CODES"):
        InputError("Expected something.", code="no.such_code")


def test_error_survives_a_process_border_with_code_and_remedy() -> None:
    error = InputError("Expected a slice.", code="series.gap", remedy="Export again.")

    copy = pickle.loads(pickle.dumps(error))  # what multiprocessing does; no file is read this way

    assert (type(copy), copy.message, copy.code, copy.remedy) == (InputError, error.message, error.code, error.remedy)


def test_message_ends_with_what_to_do() -> None:
    assert str(MedmmError("Wrong.", code="config.key", remedy="Do this.")) == "Wrong. Do this."
