"""The names that users rely on, and that importing them costs nothing."""

import subprocess
import sys

import pytest

import medmm

HEAVY = ("torch", "monai", "transformers", "torch_geometric", "pandas", "matplotlib", "scipy", "pydicom")


def test_every_public_name_is_there() -> None:
    for name in medmm.__all__:
        assert getattr(medmm, name) is not None
    assert dir(medmm) == sorted(dir(medmm))
    assert medmm.__all__ == sorted(medmm.__all__)


def test_the_contract_of_the_python_interface_is_met() -> None:
    promised = {
        "discover", "read_volume", "read_report", "read_cases", "load_model", "Diagnoser", "Case", "Volume", "Report",
        "Record", "Diagnosis", "Explanation", "CaseReport", "MedmmError", "__version__",
    }  # fmt: skip

    assert promised <= set(medmm.__all__)


def test_an_unknown_name_raises() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        medmm.no_such_name  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", ["medmm", "kg", "pipelines.cli"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
