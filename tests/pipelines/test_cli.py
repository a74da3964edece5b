"""The command line as a user meets it: exit codes, messages, signals, kills."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from batch_cohort import N_CASES, digests

from medmm.synthetic import Cohort

RULES = Path(__file__).with_name("rule_model.py")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment with a configuration folder of its own."""
    return {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config"), "COLUMNS": "100"}


@pytest.fixture
def medmm(environment: dict[str, str]) -> Run:
    """Run `medmm` with the rule model and wait for it."""

    def run(*arguments: object, **variables: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, str(RULES), *(str(argument) for argument in arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, env={**environment, **variables}, timeout=120, check=False
        )

    return run


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start `medmm` with the rule model and go on; what a failed test leaves running is ended."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: object) -> "subprocess.Popen[str]":
        command = [sys.executable, str(RULES), *(str(argument) for argument in arguments)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _arguments(cohort: Cohort, out: Path, seconds: float = 0.0) -> list[object]:
    given = ["--reports", cohort.reports, "--records", cohort.records]
    return ["diagnose", cohort.studies, "--model", seconds, "--out", out, *given]


def _rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _wait_for_a_case(out: Path, process: "subprocess.Popen[str]") -> None:
    for _ in range(2400):  # two minutes: other tests share the cores
        if (out / "cases").is_dir() and any(path.name.startswith("case-") for path in (out / "cases").iterdir()):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no case was finished in time")


def test_a_run_with_every_case_diagnosed_ends_with_0_and_says_where_to_look(
    medmm: Run, cohort: Cohort, tmp_path: Path
) -> None:
    done = medmm(*_arguments(cohort, tmp_path / "out"))

    assert done.returncode == 0, done.stderr
    assert f"{N_CASES} cases: " in done.stdout
    assert "index.html" in done.stdout
    assert re.search(r"read\s+5\s", done.stdout)
    assert f"Found {N_CASES} cases" in done.stderr
    assert f"[{N_CASES}/{N_CASES}] case-" in done.stderr
    assert "\x1b" not in done.stderr + done.stdout


def test_a_quiet_run_says_nothing(medmm: Run, cohort: Cohort, tmp_path: Path) -> None:
    done = medmm(*_arguments(cohort, tmp_path / "out"), "--quiet")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_refused_case_makes_exit_code_1_and_is_named(medmm: Run, cohort: Cohort, tmp_path: Path) -> None:
    (tmp_path / "reports.csv").write_text("patient_id,report\nPHANTOM-0000,One.\nPHANTOM-0000,Two.\n")

    done = medmm(
        "diagnose", cohort.studies, "--model", 0, "--out", tmp_path / "out", "--reports", tmp_path / "reports.csv"
    )

    assert done.returncode == 1
    assert "1 x identity.conflict" in done.stdout
    assert re.search(r"case-[0-9a-f]{12} refused: .*disagree.*\(identity\.conflict\)", done.stderr)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--resume", "--overwrite"], "not both"),
        (["--shard", "3/2"], "i/n"),
        (["--set", "sead=1"], "Did you mean 'seed'"),
        (["--set", "seed=x"], "'seed'"),
        (["--formats", "docx"], "html, json, nii"),
        (["--explain", "some"], "'explain'"),
        (["--records", "/nonexistent"], "cannot be opened"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_wrong_use_starts_nothing_and_ends_with_2(
    medmm: Run, cohort: Cohort, tmp_path: Path, extra: list[str], message: str
) -> None:
    done = medmm("diagnose", cohort.studies, "--model", 0, "--out", tmp_path / "out", *extra)

    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "results.csv").exists()


def test_an_error_says_what_to_do_and_its_code(medmm: Run, cohort: Cohort, tmp_path: Path) -> None:
    medmm(*_arguments(cohort, tmp_path / "out"))

    done = medmm(*_arguments(cohort, tmp_path / "out"))

    assert done.returncode == 2
    assert "error: The output folder holds an earlier run." in done.stderr
    assert "do:   Use --resume" in done.stderr
    assert "code: config.output" in done.stderr


@pytest.mark.bad_input("H2")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 3)])
def test_a_signal_ends_in_order_and_the_run_resumes_to_the_same_bytes(
    medmm: Run, start: Callable[..., "subprocess.Popen[str]"], cohort: Cohort, tmp_path: Path, number: int, code: int
) -> None:
    process = start(*_arguments(cohort, tmp_path / "out", seconds=0.4))
    _wait_for_a_case(tmp_path / "out", process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    stopped = _rows(tmp_path / "out")

    # How long the rules take is no part of the fingerprint, so fast ones may finish what slow ones began.
    resumed = medmm(*_arguments(cohort, tmp_path / "out"), "--resume")
    medmm(*_arguments(cohort, tmp_path / "whole"))

    assert process.returncode == code, errors
    assert "run.interrupted" in errors
    assert 1 <= len(stopped) < N_CASES
    assert resumed.returncode == 0
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


@pytest.mark.bad_input("H2")
def test_a_second_ctrl_c_ends_at_once(
    start: Callable[..., "subprocess.Popen[str]"], medmm: Run, cohort: Cohort, tmp_path: Path
) -> None:
    process = start(*_arguments(cohort, tmp_path / "out", seconds=15))
    for _ in range(1200):  # a busy machine takes its time to start
        if (tmp_path / "out" / "ledger.jsonl").exists():
            break
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)

    assert process.returncode in (130, -signal.SIGINT)  # a shell says 130 to both
    assert time.monotonic() - asked < 5
    assert medmm(*_arguments(cohort, tmp_path / "out"), "--resume").returncode == 0


@pytest.mark.bad_input("H1")
@pytest.mark.parametrize("kills", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_a_run_killed_at_any_moment_resumes_to_the_same_bytes(
    medmm: Run, start: Callable[..., "subprocess.Popen[str]"], cohort: Cohort, tmp_path: Path, kills: int
) -> None:
    took = float("inf")  # by a whole run: machines differ, so moments are parts of it
    for _ in range(2):
        begun = time.perf_counter()
        whole = medmm(*_arguments(cohort, tmp_path / "whole", seconds=0.02), "--overwrite")
        took = min(took, time.perf_counter() - begun)
    done = 0
    for number in range(kills):
        process = start(
            *_arguments(cohort, tmp_path / "out", seconds=0.02), "--resume" if number % 5 else "--overwrite"
        )
        time.sleep(took * (0.2 + 0.6 * ((number * 0.618) % 1)))
        process.kill()
        process.communicate()
        done += process.returncode == -signal.SIGKILL

    resumed = medmm(*_arguments(cohort, tmp_path / "out"), "--resume")

    assert done >= kills / 5  # as many as began anew
    assert whole.returncode == 0, whole.stderr
    assert resumed.returncode == 0, resumed.stderr
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


@pytest.mark.bad_input("H9")
def test_a_second_run_on_one_folder_is_refused(
    start: Callable[..., "subprocess.Popen[str]"], medmm: Run, cohort: Cohort, tmp_path: Path
) -> None:
    process = start(*_arguments(cohort, tmp_path / "out", seconds=1))
    _wait_for_a_case(tmp_path / "out", process)

    second = medmm(*_arguments(cohort, tmp_path / "out"), "--resume")

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert second.returncode == 2
    assert f"process {process.pid}" in second.stderr


def test_shards_are_merged_by_the_command_line(medmm: Run, cohort: Cohort, tmp_path: Path) -> None:
    for number in (1, 2):
        medmm(*_arguments(cohort, tmp_path / f"part{number}"), "--shard", f"{number}/2")

    merged = medmm("merge", tmp_path / "part1", tmp_path / "part2", "--out", tmp_path / "out")

    assert merged.returncode == 0, merged.stderr
    assert len(_rows(tmp_path / "out")) == N_CASES


def test_check_shows_what_is_there_and_what_would_be_refused(medmm: Run, cohort: Cohort, tmp_path: Path) -> None:
    (tmp_path / "reports.csv").write_text("patient_id,report\nPHANTOM-0000,One.\nPHANTOM-0000,Two.\n")

    good = medmm("check", cohort.studies, "--reports", cohort.reports)
    bad = medmm("check", cohort.studies, "--reports", tmp_path / "reports.csv", "--headers-only")

    assert good.returncode == 0, good.stderr
    assert f"{N_CASES} cases, 0 would be refused." in good.stdout
    assert "flair, t1, t1ce" in good.stdout
    assert bad.returncode == 1
    assert "identity.conflict" in bad.stdout
    assert "PHANTOM" not in good.stdout + bad.stdout


@pytest.mark.parametrize(
    "command", [[], ["diagnose"], ["check"], ["merge"], ["models"], ["models", "list"], ["doctor"]]
)
def test_help_teaches_and_is_quick(command: list[str], environment: dict[str, str]) -> None:
    started = time.monotonic()

    shown = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *command, "--help"],
        capture_output=True, text=True, env=environment, timeout=30, check=True,
    )  # fmt: skip

    assert time.monotonic() - started < 3  # 0.2 s on an idle machine
    assert "Usage: " in shown.stdout
    assert "--help" in shown.stdout


def test_every_command_in_the_help_of_diagnose_is_one_that_parses(medmm: Run) -> None:
    shown = medmm("diagnose", "--help").stdout

    named = set(re.findall(r"--[a-z-]+", shown))

    assert {"--model", "--out", "--reports", "--records", "--explain", "--formats", "--device", "--workers"} <= named
    assert {"--shard", "--resume", "--overwrite", "--set", "--quiet", "--include-report-text"} <= named
    for line in ("Exit codes:", "medmm diagnose studies/ --model glioma-mri --out results/"):
        assert line in shown


def test_the_version_is_printed(medmm: Run) -> None:
    import medmm as package

    assert medmm("--version").stdout.strip() == package.__version__


@pytest.mark.bad_input("D6")
def test_control_characters_of_messages_do_not_reach_the_terminal(medmm: Run, tmp_path: Path) -> None:
    done = medmm("diagnose", tmp_path / "\x1b[2Jgone", "--model", 0, "--out", tmp_path / "out")

    assert done.returncode == 2
    assert "\x1b" not in done.stderr
