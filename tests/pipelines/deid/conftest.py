"""Jobs of de-identification tests: a folder `in`, a folder `out`, a fixed key."""

from collections.abc import Callable
from pathlib import Path

import pytest
from deid_builders import KEY

from pipelines.deidentify import DeidJob


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., DeidJob]:
    """A job from `in` to `out` with a fixed key; every field can be given otherwise."""
    (tmp_path / "id_key").write_bytes(KEY)

    def make(**fields: object) -> DeidJob:
        values = {"folder": tmp_path / "in", "output": tmp_path / "out", "id_key": tmp_path / "id_key"}
        return DeidJob(**(values | fields))  # type: ignore[arg-type]  # fields by name

    return make
