"""Training shared by the processes of `torchrun`, here two on the CPU (gloo), ends with one model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models as tiny
from training_builders import RECIPE, write_cases, write_recipe

import medmm

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_two_processes_of_torchrun_end_with_one_model_that_diagnoses(tmp_path: Path) -> None:
    write_cases(tmp_path, 8)
    recipe = write_recipe(tmp_path, RECIPE.replace("epochs = 10", "epochs = 3"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])

    done = subprocess.run(
        [*torchrun, "-m", "pipelines.cli", "train", str(recipe), "--out", str(tmp_path / "model")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("Wrote ") == 1
    diagnosis = medmm.load_model(str(tmp_path / "model"), device="cpu").diagnose(tiny.build_case(99, text=None))
    assert set(diagnosis.tasks) == {"kind", "side"}
