"""The storage node, with real associations over a loopback port."""

import gc
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from dcmtk_tools import find_dcmtk
from pydicom import dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

pytest.importorskip("pynetdicom", reason="the extra `receive` (pynetdicom) is not installed")
from pynetdicom import AE

from medmm.errors import UsageError
from pipelines.dicom_network import Tls
from pipelines.output import SENT_NAME
from pipelines.receive import NodeConfig, StorageNode
from pipelines.send import Delivery, Destination, dicom_results, parse_destination, send, send_results

MakeConfig = Callable[..., NodeConfig]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def config(tmp_path: Path) -> MakeConfig:
    """A node on a free port of this machine."""
    (tmp_path / "key").write_bytes(bytes(32))

    def make(**fields: object) -> NodeConfig:
        values = {"folder": tmp_path / "inbox", "port": 0, "idle_s": 5.0, "id_key": tmp_path / "key"}
        return NodeConfig(**(values | fields))  # type: ignore[arg-type]  # fields by name

    return make


def _image(number: int = 0, study: str = "1.2.3") -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MRImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = UID(f"{study}.4.{number}")
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, f"{study}.4.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.4"
    dataset.PatientID, dataset.PatientName, dataset.Modality = "ZZID/../..", "ZZNAME^JANE", "MR"
    dataset.Rows = dataset.Columns = 4
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = bytes(32)
    return dataset


def _files(folder: Path, count: int = 3, study: str = "1.2.3") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.dcm" for number in range(count)]
    for number, path in enumerate(paths):
        _image(number, study).save_as(path, enforce_file_format=True)
    return paths


def _to(node: StorageNode, **fields: object) -> Destination:
    values = {"host": "127.0.0.1", "port": node.port, "ae_title": "MEDMM"}
    return Destination(**(values | fields))  # type: ignore[arg-type]  # fields by name


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_study_moves_on_when_nothing_more_of_it_comes(config: MakeConfig, tmp_path: Path) -> None:
    clock = Clock()
    with StorageNode(config(quiet_s=10), clock) as node:
        assert send(_files(tmp_path / "a"), _to(node)) == ()
        clock.now = 9
        assert send(_files(tmp_path / "b", study="1.2.9"), _to(node)) == ()
        early = node.poll()
        clock.now = 11
        first = node.poll()
        clock.now = 30
        second = node.poll()

    assert (early, len(first), len(second), node.stored) == ((), 1, 1, 6)
    assert [len(list(path.iterdir())) for path in (*first, *second)] == [3, 3]
    assert {str(dcmread(path).StudyInstanceUID) for path in first[0].iterdir()} == {"1.2.3"}


def test_names_on_the_disk_are_opaque_and_stay_inside(config: MakeConfig, tmp_path: Path) -> None:
    with StorageNode(config(quiet_s=0)) as node:
        send(_files(tmp_path / "a"), _to(node))
        node.poll()

    names = _names(tmp_path / "inbox")
    assert len(names) == 3
    assert all(name.startswith("studies/study-") and "/instance-" in name for name in names)
    assert not [name for name in names if "ZZ" in name or "1.2.3" in name]


def test_what_was_sent_is_what_lies_on_the_disk(config: MakeConfig, tmp_path: Path) -> None:
    source = _files(tmp_path / "a", 1)[0]
    with StorageNode(config(quiet_s=0)) as node:
        send([source], _to(node))
        study = node.poll()[0]

    assert dcmread(next(study.iterdir())) == dcmread(source)


def test_sending_twice_stores_once_and_late_objects_join_their_study(config: MakeConfig, tmp_path: Path) -> None:
    with StorageNode(config(quiet_s=0)) as node:
        send(_files(tmp_path / "a", 2), _to(node))
        node.poll()
        send(_files(tmp_path / "a", 3), _to(node))
        again = node.poll()

    assert len(list(again[0].iterdir())) == 3


def test_a_restarted_node_goes_on_with_what_had_arrived(config: MakeConfig, tmp_path: Path) -> None:
    clock = Clock()
    with StorageNode(config(quiet_s=10), clock) as node:
        send(_files(tmp_path / "a"), _to(node))
    half = tmp_path / "inbox" / "incoming" / ".arriving" / "half"
    half.write_bytes(b"half an object")

    with StorageNode(config(quiet_s=10), clock) as node:
        early = node.poll()
        clock.now = 10
        complete = node.poll()

    assert (early, len(complete), half.exists()) == ((), 1, False)


def test_an_object_without_a_study_is_refused_and_the_others_are_stored(config: MakeConfig, tmp_path: Path) -> None:
    paths = _files(tmp_path / "a")
    broken = _image(1)
    del broken.StudyInstanceUID
    broken.save_as(paths[1], enforce_file_format=True)

    with StorageNode(config(quiet_s=0)) as node:
        refused = send(paths, _to(node))

    assert refused == (paths[1],)
    assert (node.stored, node.refused) == (2, 1)


def test_an_object_over_the_limit_is_refused(config: MakeConfig, tmp_path: Path) -> None:
    paths = _files(tmp_path / "a", 1)

    with StorageNode(config(object_bytes=100)) as node:
        refused = send(paths, _to(node))

    assert refused == tuple(paths)
    assert _names(tmp_path / "inbox") == []


@pytest.mark.parametrize("fields", [{"ae_title": "OTHER"}, {"own_title": "STRANGER"}], ids=["called", "calling"])
def test_an_association_with_a_wrong_title_is_refused(
    config: MakeConfig, tmp_path: Path, fields: dict[str, str]
) -> None:
    with (
        StorageNode(config(callers=("MEDMM",))) as node,
        pytest.raises(UsageError, match="cannot be reached or refuses"),
    ):
        send(_files(tmp_path / "a", 1), _to(node, **fields))


def test_more_associations_than_allowed_are_turned_away(config: MakeConfig) -> None:
    with StorageNode(config(max_associations=1)) as node:
        caller = AE()
        caller.add_requested_context("1.2.840.10008.1.1")
        first = caller.associate("127.0.0.1", node.port, ae_title="MEDMM")
        second = caller.associate("127.0.0.1", node.port, ae_title="MEDMM")
        echo = first.send_c_echo()
        first.release()

    assert (first.is_released, second.is_established, echo.Status) == (True, False, 0)


def test_a_port_in_use_is_said_before_anything_starts(config: MakeConfig) -> None:
    with (
        StorageNode(config()) as node,
        pytest.raises(UsageError, match="cannot listen"),
        StorageNode(config(port=node.port)),
    ):
        pass


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A certificate that is its own authority."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=node", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    return Tls(certificate=folder / "cert.pem", key=folder / "key.pem", authority=folder / "cert.pem")


def test_a_node_with_tls_takes_callers_with_a_certificate_only(config: MakeConfig, tmp_path: Path, tls: Tls) -> None:
    paths = _files(tmp_path / "a", 1)
    with StorageNode(config(tls=tls, quiet_s=0, idle_s=2.0)) as node:
        refused = send(paths, _to(node, tls=tls))
        with pytest.raises(UsageError, match="cannot be reached"):
            send(paths, _to(node))

    gc.collect()
    assert (refused, node.stored) == ((), 1)


def test_unusable_tls_files_are_said_before_anything_starts(config: MakeConfig, tmp_path: Path) -> None:
    missing = Tls(certificate=tmp_path / "no.pem", key=tmp_path / "no.key")

    with pytest.raises(UsageError, match="files for TLS"), StorageNode(config(tls=missing)):
        pass


@pytest.mark.parametrize(
    "text", ["PACS", "PACS@host", "@host:104", "PACS@host:0", "PACS@host:99999", "P" * 17 + "@h:1"]
)
def test_a_destination_is_title_host_and_port(text: str) -> None:
    with pytest.raises(UsageError, match="PACS@"):
        parse_destination(text)


def test_results_are_sent_once_and_again_when_they_change(config: MakeConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    reports = _files(out / "cases" / "case-1", 2)
    _files(out / "cases" / ".writing-case-2", 1)
    with StorageNode(config(quiet_s=0)) as node:
        first, second = (send_results(out, _to(node)) for _ in range(2))
        changed = _image(1)
        changed.SeriesDescription = "done again"
        changed.save_as(reports[1], enforce_file_format=True)
        third = send_results(out, _to(node))

    assert (first, second, third) == (Delivery(2, 0), Delivery(0, 0), Delivery(1, 0))
    assert dicom_results(out) == tuple(reports)
    assert len((out / SENT_NAME).read_text().splitlines()) == 3


def test_results_that_are_not_taken_go_with_the_next_call(config: MakeConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _files(out / "cases" / "case-1", 2)
    with StorageNode(config(object_bytes=100)) as node:
        first = send_results(out, _to(node))
    with StorageNode(config()) as node:
        second = send_results(out, _to(node))

    assert (first, second) == (Delivery(0, 2), Delivery(2, 0))


def test_storescu_of_dcmtk_can_send_to_the_node(config: MakeConfig, tmp_path: Path) -> None:
    storescu = find_dcmtk("storescu")
    if storescu is None:
        pytest.skip("storescu (dcmtk) is not installed")
    folder = _files(tmp_path / "a")[0].parent
    with StorageNode(config(quiet_s=0)) as node:
        ended = subprocess.run(
            [storescu, "-aec", "MEDMM", "+sd", "127.0.0.1", str(node.port), str(folder)],
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        studies = node.poll()

    assert ended.returncode == 0
    assert [len(list(study.iterdir())) for study in studies] == [3]


def test_storescp_of_dcmtk_takes_what_is_sent(tmp_path: Path) -> None:
    storescp = find_dcmtk("storescp")
    if storescp is None:
        pytest.skip("storescp (dcmtk) is not installed")
    (tmp_path / "pacs").mkdir()
    port = _free_port()
    process = subprocess.Popen([storescp, "-od", str(tmp_path / "pacs"), str(port)])
    try:
        _wait_until_up(port)
        refused = send(_files(tmp_path / "a"), Destination(host="127.0.0.1", port=port))
    finally:
        process.kill()
        process.wait()

    assert refused == ()
    assert len(list((tmp_path / "pacs").iterdir())) == 3


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(port: int) -> None:
    """Return as soon as the other process listens."""
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.02)
        else:
            return
