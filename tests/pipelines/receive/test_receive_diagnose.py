"""The whole way of a study from a PACS: sent to the node, diagnosed by the watch, results sent on."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from dcmtk_tools import find_dcmtk

pytest.importorskip("pynetdicom", reason="the extra `receive` (pynetdicom) is not installed")

from medmm.synthetic import Cohort
from pipelines.receive import NodeConfig, StorageNode
from pipelines.send import Destination, send

pytestmark = pytest.mark.slow  # three processes start
RULES = Path(__file__).parents[1] / "rule_model.py"
PATIENCE_S = 120


def _until(done: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., "subprocess.Popen[str]"]:
    """Start `medmm` with the rule model."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run(*arguments: object) -> "subprocess.Popen[str]":
        command = [sys.executable, str(RULES), *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return run


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator["Pacs"]:
    """Where results go: storescp of dcmtk, or a node of our own where it is not installed."""
    folder, storescp = tmp_path / "pacs", find_dcmtk("storescp")
    folder.mkdir()
    if storescp is None:
        with StorageNode(NodeConfig(folder=folder, port=0, quiet_s=0, id_key=_key(tmp_path))) as node:
            yield Pacs(folder, f"MEDMM@127.0.0.1:{node.port}")
        return
    port = _free_port()
    process = subprocess.Popen([storescp, "-od", str(folder), str(port)])
    try:
        yield Pacs(folder, f"STORESCP@127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Pacs:
    """What it holds and how to reach it."""

    folder: Path
    address: str

    def modalities(self) -> set[str]:
        """Of every object that has arrived whole."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.stat().st_size]
        return {str(pydicom.dcmread(path).Modality) for path in files}


def test_a_study_that_is_sent_is_diagnosed_and_its_results_go_back(
    start: Callable[..., "subprocess.Popen[str]"], cohort: Cohort, tmp_path: Path, pacs: Pacs
) -> None:
    storescu = find_dcmtk("storescu")
    study = cohort.studies / "PHANTOM-0000"
    port, inbox, out = _free_port(), tmp_path / "inbox", tmp_path / "out"
    node = start("receive", "--out", inbox, "--port", port, "--quiet-period", 0.5)
    watch = start(
        "diagnose", inbox / "studies", "--model", 0, "--out", out, "--watch", "--quiet-period", 0,
        "--formats", "html,json,sr,seg", "--send-to", pacs.address,
    )  # fmt: skip
    try:
        _until(lambda: _is_up(port), node)
        if storescu is not None:
            sent = [storescu, "-aec", "MEDMM", "+sd", "+r", "127.0.0.1", str(port), str(study)]
            subprocess.run(sent, check=True, capture_output=True, timeout=60)
        else:
            files = [path for path in study.rglob("*") if path.is_file()]
            assert send(files, Destination(host="127.0.0.1", port=port, ae_title="MEDMM")) == ()
        _until((out / "sent.txt").exists, watch)
        node.send_signal(signal.SIGINT)
        watch.send_signal(signal.SIGINT)
        spoken = [*node.communicate(timeout=60), *watch.communicate(timeout=60)]
    finally:
        node.kill()
        watch.kill()

    assert (node.returncode, watch.returncode) == (130, 130), spoken
    assert len(list(out.glob("cases/case-*/report.html"))) == 1
    assert pacs.modalities() == {"SR", "SEG"}
    assert "1 cases: 1 ok" in spoken[2] or "1 with warnings" in spoken[2]
    assert "PHANTOM" not in "".join(spoken)


def test_results_go_back_after_a_batch(
    start: Callable[..., "subprocess.Popen[str]"], cohort: Cohort, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(cohort.studies / "PHANTOM-0000", tmp_path / "studies" / "a")
    first = ["diagnose", tmp_path / "studies", "--model", 0, "--out", out, "--explain", "none", "--formats", "json"]
    start(*first).communicate(timeout=PATIENCE_S)
    made = next((tmp_path / "studies").rglob("*.dcm"), None) or next(
        path for path in (tmp_path / "studies").rglob("*") if path.is_file()
    )
    case = next((out / "cases").iterdir())
    shutil.copyfile(made, case / "stand-in.dcm")

    with StorageNode(NodeConfig(folder=tmp_path / "pacs", port=0, quiet_s=0, id_key=_key(tmp_path))) as pacs:
        again = start(*first, "--resume", "--send-to", f"MEDMM@127.0.0.1:{pacs.port}")
        _, told = again.communicate(timeout=PATIENCE_S)

    assert pacs.stored == 1, told
    assert "1 DICOM results sent, 0 not taken" in told


def _key(folder: Path) -> Path:
    (folder / "key").write_bytes(bytes(32))
    return folder / "key"


def _is_up(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
