"""Shared fixtures: where the development data lies, and a cache folder that tests own."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data beside the checkout; the test skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("development data is not beside this checkout (../shared/data)")
    return SHARED_DATA
