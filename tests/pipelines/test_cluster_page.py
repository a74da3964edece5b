"""The scripts of docs/how-to/cluster.md are run as they stand there, with stand-ins for the schedulers only.

Paths become those of the test, the model becomes rules, eight parts become two; everything else is the page's.
"""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from batch_cohort import digests

from medmm.synthetic import Cohort

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "cluster.md"
RULES = Path(__file__).with_name("rule_model.py")
# `medmm` with rules in place of the model of the page.
MEDMM = f"""#!{sys.executable}
import os, sys
words = ["0" if word == "glioma-mri" else word for word in sys.argv[1:]]
os.execv(sys.executable, [sys.executable, {str(RULES)!r}, *words])
"""
SAYS_HOW = '#!/bin/sh\necho "$@"\nexit $CODE\n'


def _block(language: str, has: str) -> str:
    """The code block of the page that has some words in it."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (found,) = [block for block in blocks if has in block]
    return found


def _command(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def place(cohort: Cohort, tmp_path: Path) -> Path:
    """What the page calls /, with studies, a key and a `bin` of stand-ins."""
    for name in ("bin", "secure", "data/parts"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data" / "studies").symlink_to(cohort.studies, target_is_directory=True)
    (tmp_path / "secure" / "id_key").write_bytes(bytes(32))
    _command(tmp_path / "bin", "medmm", MEDMM)
    _command(tmp_path / "bin", "srun", '#!/bin/sh\nexec "$@"\n')
    return tmp_path


def _run(place: Path, script: str, shell: str = "bash", **variables: str) -> subprocess.CompletedProcess[str]:
    here = script.replace("/data/", f"{place}/data/").replace("/secure/", f"{place}/secure/")
    paths = os.pathsep.join([str(place / "bin"), os.environ["PATH"]])
    code = os.pathsep.join([str(PAGE.parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PATH": paths, "PYTHONPATH": code, **variables}
    return subprocess.run([shell, "-c", here], env=environment, capture_output=True, text=True, check=False)


def _whole(place: Path) -> dict[str, str]:
    """The results of one run over everything."""
    done = _run(place, "medmm diagnose /data/studies --model glioma-mri --out /data/whole --id-key /secure/id_key -q")
    assert done.returncode == 0, done.stderr
    return digests(place / "data" / "whole")


@pytest.mark.slow
def test_the_slurm_array_and_its_merge_give_the_results_of_one_run(place: Path) -> None:
    script, submit = _block("bash", "#SBATCH"), _block("sh", "sbatch")
    (merge,) = re.findall(r"--wrap '([^']+)'", submit)

    for task in ("1", "2"):
        done = _run(place, script, SLURM_ARRAY_TASK_ID=task, SLURM_ARRAY_TASK_COUNT="2")
        assert done.returncode == 0, done.stderr
    again = _run(place, script, SLURM_ARRAY_TASK_ID="1", SLURM_ARRAY_TASK_COUNT="2")  # requeued: nothing left to do
    merged = _run(place, merge)

    assert again.returncode == 0, again.stderr
    assert merged.returncode == 0, merged.stderr
    assert digests(place / "data" / "results") == _whole(place)


def _job() -> Mapping[str, Any]:
    job: Mapping[str, Any] = yaml.safe_load(_block("yaml", "completionMode"))
    return job


@pytest.mark.slow
def test_the_kubernetes_job_gives_the_results_of_one_run(place: Path) -> None:
    (container,) = _job()["spec"]["template"]["spec"]["containers"]
    (script,) = container["args"]

    for index in ("0", "1"):
        done = _run(place, script.replace("/8 ", "/2 "), container["command"][0], JOB_COMPLETION_INDEX=index)
        assert done.returncode == 0, done.stderr
    merged = _run(place, "medmm merge /data/parts/* --out /data/results")

    assert merged.returncode == 0, merged.stderr
    assert digests(place / "data" / "results") == _whole(place)


@pytest.mark.parametrize(("code", "ends"), [("0", 0), ("1", 0), ("2", 2), ("3", 3)])
def test_refused_cases_do_not_fail_a_kubernetes_pod_and_everything_else_does(place: Path, code: str, ends: int) -> None:
    (container,) = _job()["spec"]["template"]["spec"]["containers"]
    _command(place / "bin", "medmm", SAYS_HOW)

    done = _run(place, container["args"][0], container["command"][0], JOB_COMPLETION_INDEX="7", CODE=code)

    assert done.returncode == ends
    assert "--shard 8/8" in done.stdout
    assert f"--out {place}/data/parts/7" in done.stdout


def test_the_kubernetes_job_holds_together() -> None:
    spec = _job()["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]

    assert spec["completionMode"] == "Indexed"
    assert f"/{spec['completions']} " in container["args"][0]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert pod["restartPolicy"] == "Never"  # `podFailurePolicy` needs it
    assert pod["terminationGracePeriodSeconds"] > 30
