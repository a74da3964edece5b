"""The promises of the two packages' front doors: every name is there, and opening the door costs nothing."""

import json
import subprocess
import sys
from types import ModuleType

import pytest

import kg
import medmm

HEAVY = (
    "torch",
    "pandas",
    "monai",
    "transformers",
    "torch_geometric",
    "lightning",
    "matplotlib",
    "captum",
    "highdicom",
)
PRINT_LOADED = f"import json; print('LOADED' + json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"


def loaded_after(code: str) -> list[str]:
    """The heavy libraries that a fresh interpreter has loaded after running `code`."""
    found = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{PRINT_LOADED}"], capture_output=True, text=True, check=True
    )
    return list(json.loads(found.stdout.rsplit("LOADED", 1)[1]))


@pytest.mark.parametrize("package", [medmm, kg], ids=lambda package: package.__name__)
def test_every_public_name_resolves(package: ModuleType) -> None:
    missing = [name for name in package.__all__ if getattr(package, name, None) is None]

    assert missing == []


@pytest.mark.parametrize("package", [medmm, kg], ids=lambda package: package.__name__)
def test_public_names_are_sorted_and_each_is_listed_once(package: ModuleType) -> None:
    assert list(package.__all__) == sorted(set(package.__all__))


@pytest.mark.parametrize("package", [medmm, kg], ids=lambda package: package.__name__)
def test_every_public_name_shows_in_completion(package: ModuleType) -> None:
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize("package", [medmm, kg], ids=lambda package: package.__name__)
def test_every_public_name_is_documented(package: ModuleType) -> None:
    names = [name for name in package.__all__ if not name.startswith("__")]

    undocumented = [name for name in names if not (getattr(package, name).__doc__ or "").strip()]

    assert undocumented == []


@pytest.mark.parametrize("package", [medmm, kg], ids=lambda package: package.__name__)
def test_a_name_that_is_not_public_raises(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        package.no_such_name


@pytest.mark.parametrize("package", ["medmm", "kg"])
def test_importing_a_package_loads_no_heavy_library(package: str) -> None:
    assert loaded_after(f"import {package}") == []


def test_help_loads_no_heavy_library() -> None:
    run_help = (
        "sys.argv = ['medmm', '--help']\nfrom pipelines.cli import main\ntry:\n    main()\nexcept SystemExit: pass"
    )

    assert loaded_after(run_help) == []
