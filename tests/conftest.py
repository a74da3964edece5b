"""Shared fixtures: where the development data lies. Property tests draw the same examples on every run.

`--hypothesis-profile=search` draws new ones; what it finds becomes a test of its own.
"""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.register_profile("many", max_examples=2_500, deadline=None)  # tests/test_any_input.py
settings.load_profile("repeatable")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data beside the checkout; the test skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("development data is not beside this checkout (../shared/data)")
    return SHARED_DATA
