"""Any header, table, report or graph file is read or refused with a code: nothing else is raised.

A hundred examples each by default; ten thousand in all (2,500 each) with

    python -m pytest -m slow --hypothesis-profile=many tests/test_any_input.py
"""

import json
import struct
import warnings
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

import kg
from kg.building import build_from_tables
from kg.errors import KgError
from kg.sources.files import read_file
from medmm.dicom.discover import discover
from medmm.dicom.volume import read_volume
from medmm.errors import InputError, MedmmError
from medmm.records import read_table, record_of
from medmm.report_leak import cover_answers
from medmm.report_reading import is_empty, read_report, report_from_text
from pipelines.manifest import read_manifest

pytestmark = pytest.mark.slow
# One file is written again and again: a folder for each of ten thousand examples would fill the disk with inodes.
SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

VRS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "TM", "UI", "US", "SS", "FL", "FD", "SQ", "UN")
NEEDED = (
    0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x00080060, 0x0008103E, 0x00100010, 0x00100020, 0x00100030,
    0x00100040, 0x00101010, 0x00180050, 0x0020000D, 0x0020000E, 0x00200032, 0x00200037, 0x00280002, 0x00280004,
    0x00280008, 0x00280010, 0x00280011, 0x00280030, 0x00280100, 0x00280101, 0x00280103, 0x00281052, 0x00281053,
    0x52009229,
)  # fmt: skip


def _slice() -> bytes:
    """A small MR image as a file."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, "1.2.3.4"
    dataset.Modality, dataset.PatientID, dataset.PatientName = "MR", "P1", "Doe^Jane"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.5"
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [1, 1], 2
    dataset.Rows = dataset.Columns = 4
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = bytes(range(32))
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    buffer = pydicom.filebase.DicomBytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


SLICE = _slice()


@st.composite
def elements(draw: st.DrawFn) -> tuple[int, bytes]:
    """An element in explicit little endian: its tag, and bytes whose length may lie."""
    tag = draw(st.one_of(st.sampled_from(NEEDED), st.integers(0x00080000, 0x7FE00010)))
    vr = draw(st.sampled_from(VRS))
    text = st.text("0123456789.-+eE\\^NaNinf ", max_size=20).map(str.encode)
    value = draw(st.one_of(text, st.binary(max_size=24)))
    length = draw(st.one_of(st.just(len(value)), st.integers(0, 2**32 - 1)))
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    long = vr in ("SQ", "UN")
    return tag, head + (struct.pack("<HI", 0, length) if long else struct.pack("<H", length & 0xFFFF)) + value


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """The small image with elements put in or over those that are there, and now and then a few bytes changed."""
    raw = bytearray(SLICE)
    for tag, element in draw(st.lists(elements(), max_size=4)):
        at = raw.find(struct.pack("<HH", tag >> 16, tag & 0xFFFF), 132)
        if at < 0:
            at = draw(st.integers(132, len(raw)))
        elif draw(st.booleans()):
            length = struct.unpack_from("<H", raw, at + 6)[0] if at + 8 <= len(raw) else 0
            del raw[at : at + 8 + length]
        raw[at:at] = element
    for at, value in draw(st.lists(st.tuples(st.integers(128, len(raw) - 1), st.integers(0, 255)), max_size=3)):
        raw[at] = value
    return bytes(raw)


@pytest.mark.bad_input("D8")
@SETTINGS
@given(content=headers())
def test_any_header_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one.dcm").write_bytes(content)

    found = discover(tmp_path, workers=0)

    assert found.skipped or found.studies  # it is accounted for
    for series in (series for study in found.studies for series in study.series):
        try:
            volume = read_volume(series, workers=0)
        except InputError as error:
            assert error.code
        else:
            assert volume.voxels.ndim == 4


cells = st.one_of(
    st.sampled_from(
        ["case", "patient_id", "volumes", "report", "record.age", "label.x", "t1=a;t1=b", "007", '"', "NaN"]
    ),
    st.text(max_size=12),
)
tables = st.one_of(
    st.binary(max_size=200),
    st.lists(st.lists(cells, max_size=6), max_size=6).map(
        lambda rows: "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")
    ),
    st.lists(st.lists(cells, min_size=2, max_size=2), max_size=5).map(
        lambda rows: ("case,report_text\n" + "\n".join(",".join(row) for row in rows)).encode("utf-8", "replace")
    ),
)


@pytest.mark.bad_input("E11")
@SETTINGS
@given(content=tables)
def test_any_table_is_a_manifest_a_record_or_wrong_usage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)

    for read in (read_manifest, read_table):
        try:
            found = read(path)
        except MedmmError as error:
            assert error.code == "config.table"
            continue
        for row in found.rows.values() if isinstance(found.rows, dict) else ():
            record_of(row, found.columns)


reports = st.one_of(
    st.binary(max_size=300),
    st.lists(
        st.one_of(
            st.sampled_from(
                ["FINDINGS:", "IMPRESSION", "No evidence of glioma.", "<b>", "{\\rtf1", "%PDF-1.7", "\x00", "ü"]
            ),
            st.text(max_size=40),
        ),
        max_size=8,
    ).map(lambda parts: "\n".join(parts).encode("utf-8", "surrogatepass")),
)


@pytest.mark.bad_input("E3", "E5")
@SETTINGS
@given(content=reports)
def test_any_report_is_read_or_refused_and_can_be_linked(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "report.txt"
    path.write_bytes(content)

    try:
        report = read_report(path)
    except InputError as error:
        assert error.code in ("report.format", "text.charset", "io.unreadable")
        report = report_from_text(content.decode("latin-1"))
    is_empty(report)
    covered = cover_answers(report, ["glioma", "a b"])
    mentions = kg.link(report.text)

    assert len(covered.text) == len(report.text)
    assert all(report.text[one.start : one.end] == one.text for one in mentions)
    assert all(0 <= one.start <= one.end <= len(report.text) for one in report.sections)


OBO = (
    'format-version: 1.2\n\n[Term]\nid: D:1\nname: a b\nsynonym: "c" EXACT []\nis_a: D:2\n\n[Term]\nid: D:2\nname: d\n'
)
OBOGRAPHS = json.dumps(
    {"graphs": [{"id": "g", "nodes": [{"id": "http://x/D_1", "lbl": "a", "type": "CLASS", "meta": {"synonyms": []}}],
                 "edges": [{"sub": "http://x/D_1", "pred": "is_a", "obj": "http://x/D_2"}]}]}
)  # fmt: skip
OWL = (
    '<?xml version="1.0"?><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    'xmlns:owl="http://www.w3.org/2002/07/owl#" xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#">'
    '<owl:Class rdf:about="http://x/D_1"><rdfs:label>a</rdfs:label></owl:Class></rdf:RDF>'
)
NODES = "id\tcategory\tname\nD:1\tbiolink:Disease\ta\nD:2\tbiolink:Disease\tb\n"
OWN = "id,name,kind,synonyms\nX:1,a,disease,b|c\n"
HETIONET = json.dumps(
    {"nodes": [{"kind": "Disease", "identifier": "D:1", "name": "a"}],
     "edges": [{"source_id": ["Disease", "D:1"], "target_id": ["Disease", "D:1"], "kind": "resembles"}]}
)  # fmt: skip
PRIMEKG = (
    "relation,display_relation,x_index,x_id,x_type,x_name,x_source,y_index,y_id,y_type,y_name,y_source\n"
    "disease_disease,parent,0,1,disease,a,MONDO,1,2,disease,b,MONDO\n"
)
FILES = {
    "a.obo": OBO, "a.json": OBOGRAPHS, "a.owl": OWL, "nodes.tsv": NODES, "concepts.csv": OWN, "hetionet.json": HETIONET,
    "kg.csv": PRIMEKG,
}  # fmt: skip


@st.composite
def graph_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A small valid file of some format in which pieces were cut out, doubled or written over."""
    name = draw(st.sampled_from(sorted(FILES)))
    raw = FILES[name].encode()
    pieces = st.one_of(
        st.binary(max_size=6), st.sampled_from([b"null", b"{}", b"[]", b'"', b"\t", b"\n", b"D:1", b"1e999"])
    )
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(raw)))
        stop = draw(st.integers(start, min(len(raw), start + 30)))
        raw = raw[:start] + draw(pieces) * draw(st.integers(0, 2)) + raw[stop:]
    return name, raw


@pytest.mark.bad_input("F2", "F3")
@SETTINGS
@given(file=graph_files())
def test_any_graph_file_becomes_a_graph_or_is_refused(tmp_path: Path, file: tuple[str, bytes]) -> None:
    name, content = file
    path = tmp_path / name
    path.write_bytes(content)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # defects are logged; libraries warn of them
        try:
            graph = build_from_tables([read_file(path)])
        except KgError as error:
            assert error.code
        else:
            assert graph.n_concepts or graph.defects  # an empty graph says why
    path.unlink()
