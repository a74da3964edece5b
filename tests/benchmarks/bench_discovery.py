"""How long does discovery take for a large archive, how much memory, and how fast is the second run with an index?

    python tests/benchmarks/bench_discovery.py [--files 100000] [--write docs/benchmarks/dicom.md]

Files of real MR headers (the pixels cut to 32 x 32) are written under new UIDs: 100 slices a series, 5 series a study,
a patient a study, all names alike. Each run has a process of its own, so that its peak memory is its own; runs that
open the files come after one that warmed the page cache.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from bench_dicom import DATA, machine

SLICES, SERIES = 100, 5
RUNS = (("1 worker", 1, False), ("2 workers", 2, False), ("2 workers, writing the index", 2, True))
AGAIN = "second run, by the index"


def build(folder: Path, files: int) -> None:
    """Write slices that differ from the real one in UIDs, patient, number and position."""
    import pydicom
    from pydicom.uid import generate_uid

    source = sorted((DATA / "brain-mr/Study3/11-T1post").iterdir())[0]
    dataset = pydicom.dcmread(source)
    dataset.Rows = dataset.Columns = 32
    dataset.PixelData = bytes(2048)
    own = {name: generate_uid(entropy_srcs=[name]) for name in ("study", "series", "object")}
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = own.values()
    dataset.file_meta.MediaStorageSOPInstanceUID = own["object"]
    dataset.PatientID, dataset.InstanceNumber = "PATIENT#", 10000
    dataset.ImagePositionPatient = ["0", "0", "20000"]
    template = folder / "template"
    dataset.save_as(template)
    raw = template.read_bytes()
    template.unlink()
    for n in range(files):
        series, study = n // SLICES, n // SLICES // SERIES
        made = raw.replace(own["object"].encode(), _numbered(own["object"], n))
        made = made.replace(own["series"].encode(), _numbered(own["series"], series))
        made = made.replace(own["study"].encode(), _numbered(own["study"], study))
        made = made.replace(b"PATIENT#", b"%08d" % study).replace(b"10000 ", b"%-6d" % (n % SLICES + 1))
        made = made.replace(b"\\20000", b"\\%-5d" % (n % SLICES))
        target = folder / f"{study:05d}" / f"{series % SERIES}"
        target.mkdir(parents=True, exist_ok=True)
        (target / f"IM{n % SLICES:05d}").write_bytes(made)


def _numbered(uid: str, n: int) -> bytes:
    return f"{uid[:-9]}{n + 100_000_000}".encode()


def peak_mib(process: int | str = "self") -> float:
    """Highest resident memory of a process so far (that of getrusage counts the process it was forked from too)."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure(folder: Path, workers: int, index: str | None) -> dict[str, float]:
    """Seconds of one discovery, peak MiB of this process and of its largest child, and what was found."""
    from medmm.dicom import discover

    before = peak_mib()
    started = time.perf_counter()
    found = discover(folder, workers=workers, index=index)
    seconds = time.perf_counter() - started
    peak = peak_mib()
    children = [peak_mib(child.pid) for child in psutil.Process().children()]
    slices = [len(series.slices) for study in found.studies for series in study.series]
    assert set(slices) == {SLICES} and not found.skipped
    return {
        "seconds": seconds,
        "files": sum(slices),
        "grown_mib": peak - before,
        "peak_mib": peak,
        "child_mib": max(children, default=0.0),
    }


def run(folder: Path, workers: int, index: Path | None) -> dict[str, float]:
    """`measure` in a process of its own."""
    one = [str(folder), str(workers), str(index or "")]
    done = subprocess.run([sys.executable, __file__, "--one", *one], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        folder, workers, index = options.one
        sys.stdout.write(json.dumps(measure(Path(folder), int(workers), index or None)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as beside:
        build(Path(name), options.files)
        index = Path(beside) / "index"
        run(Path(name), 2, None)  # warms the page cache
        for label, workers, writes in RUNS:
            rows.append((label, run(Path(name), workers, index if writes else None)))
        rows.append((AGAIN, run(Path(name), 2, index)))
        size = index.stat().st_size / 2**20
    lines = [
        f"{options.files} files; {machine()}; the index takes {size:.0f} MiB",
        "",
        "| run | seconds | files a second | memory grown by, MiB | bytes a file | largest worker, MiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for label, figures in rows:
        each = figures["grown_mib"] * 2**20 / figures["files"]
        lines.append(
            f"| {label} | {figures['seconds']:.1f} | {figures['files'] / figures['seconds']:.0f} | "
            f"{figures['grown_mib']:.0f} | {each:.0f} | {figures['child_mib']:.0f} |"
        )
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if options.write:
        before, _, after = options.write.read_text(encoding="utf-8").partition("<!-- discovery -->\n")
        tail = after.partition("<!-- end of discovery -->\n")[2]
        made = f"{before}<!-- discovery -->\n{text}<!-- end of discovery -->\n{tail}"
        options.write.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
