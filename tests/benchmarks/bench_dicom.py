"""How fast does a folder of DICOM become a list of (array, affine), against the peers and against the floor?

    python tests/benchmarks/bench_dicom.py [--rounds 3] [--write docs/benchmarks/dicom.md]

Real series of the development data are copied (new UIDs) until there are about 114 MB of MR and 238 MB of CT. Each tool
runs in a process of its own: one warm-up over the whole folder (page cache, imports, workers), then `--repeats` timed
runs; the tools take turns for `--rounds`, and the best run counts. The floor reads the bytes of every file and copies
its pixels into float32, nothing else.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom" / "series"
SETS = {"MR": (DATA / "brain-mr/Study3/11-T1post", 28), "CT": (DATA / "head-ct/S21570/S2010", 16)}
TOOLS = (
    "floor",
    "medmm, 1 worker",
    "medmm, 2 workers",
    "medmm, in process",
    "SimpleITK",
    "dcm2niix",
    "dicom2nifti",
    "MONAI ITKReader",
    "MONAI PydicomReader",
)
# Volumes of 4 MiB and more get fresh memory from the system in every run, as they do in a program that keeps them;
# smaller pieces use memory again. Left alone, the C library decides by chance whether the second run has to ask again,
# which changes the floor by a factor of two.
MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4194304", "MALLOC_TRIM_THRESHOLD_": "268435456"}
Arrays = list[tuple[np.ndarray, np.ndarray]]


def build(folder: Path) -> None:
    """Copy the series under new UIDs, one folder each."""
    import pydicom
    from pydicom.uid import generate_uid

    for name, (source, copies) in SETS.items():
        files = [path for path in sorted(source.iterdir()) if path.is_file() and path.stat().st_size > 100_000]
        for copy in range(copies):
            target = folder / name / f"{copy:02d}"
            target.mkdir(parents=True)
            uid = generate_uid()
            for path in files:
                dataset = pydicom.dcmread(path)
                dataset.SeriesInstanceUID, dataset.SOPInstanceUID = uid, generate_uid()
                dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
                dataset.save_as(target / path.name)


def run_floor(folder: Path) -> Arrays:
    out: Arrays = []
    for series in sorted(folder.iterdir()):
        files = sorted(series.iterdir())
        shape = (512, 512) if folder.name == "CT" else (320, 280)
        size = shape[0] * shape[1] * 2
        stack = np.empty((len(files), *shape), np.float32)
        for n, path in enumerate(files):
            stack[n] = np.frombuffer(path.read_bytes()[-size:], np.int16).reshape(shape)
        out.append((stack, np.eye(4)))
    return out


def run_medmm(workers: int) -> Callable[[Path], Arrays]:
    from medmm.dicom import discover
    from medmm.dicom.volume import read_volume

    def run(folder: Path) -> Arrays:
        studies = discover(folder, workers=workers).studies
        volumes = [read_volume(series, workers=workers) for study in studies for series in study.series]
        return [(volume.voxels, volume.affine_ras) for volume in volumes]

    return run


def run_simpleitk(folder: Path) -> Arrays:
    import SimpleITK as sitk  # noqa: N813  # the package's own abbreviation

    out: Arrays = []
    for series in sorted(folder.iterdir()):
        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(series)):
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series), uid))
            image = reader.Execute()
            affine = np.eye(4)
            affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
            affine[:3, 3] = image.GetOrigin()
            out.append((sitk.GetArrayFromImage(image).astype(np.float32), affine))
    return out


def run_monai(reader: str) -> Callable[[Path], Arrays]:
    from monai.transforms import LoadImage

    load = LoadImage(reader=reader, image_only=True)

    def run(folder: Path) -> Arrays:
        images = [load(str(series)) for series in sorted(folder.iterdir())]
        return [(image.numpy(), image.affine.numpy()) for image in images]

    return run


def run_dicom2nifti(folder: Path) -> Arrays:
    import dicom2nifti

    out: Arrays = []
    for series in sorted(folder.iterdir()):
        image = dicom2nifti.dicom_series_to_nifti(series, None, reorient_nifti=False)["NII"]
        out.append((np.asarray(image.dataobj, np.float32), image.affine))
    return out


def run_dcm2niix(folder: Path) -> Arrays:
    import nibabel

    out: Arrays = []
    with tempfile.TemporaryDirectory() as target:
        beside = Path(sys.executable).parent / "dcm2niix"  # where its wheel puts it
        program = str(beside) if beside.exists() else shutil.which("dcm2niix") or "dcm2niix"
        command = [program, "-z", "n", "-b", "n", "-f", "%j", "-o", target, str(folder)]
        subprocess.run(command, check=True, capture_output=True)
        for path in sorted(Path(target).glob("*.nii")):
            image = nibabel.load(path)
            out.append((np.asarray(image.dataobj, np.float32), image.affine))
    return out


def tool(name: str) -> Callable[[Path], Arrays]:
    """The function that reads a folder with one tool; imports happen here, outside the clock."""
    if name.startswith("medmm"):
        return run_medmm({"1": 1, "2": 2}.get(name.split(", ")[1][0], 0))
    if name.startswith("MONAI"):
        return run_monai(name.split()[1])
    plain = {"floor": run_floor, "SimpleITK": run_simpleitk, "dcm2niix": run_dcm2niix, "dicom2nifti": run_dicom2nifti}
    return plain[name]


def cpu_seconds() -> float:
    """Processor time of this process, of the children it has waited for, and of those that live."""
    import psutil

    ended = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    alive = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(one.ru_utime + one.ru_stime for one in ended) + sum(one.user + one.system for one in alive)


def measure(name: str, folder: Path, repeats: int) -> dict[str, float]:
    """Best seconds and processor seconds of the timed runs, peak MiB of this process and of its largest child."""
    run = tool(name)
    held = [run(folder)]
    volumes, size = len(held[0]), sum(array.nbytes for array, _ in held[0]) / 2**20
    seconds, busy = [], []
    for _ in range(repeats):
        held.clear()  # so that two results never share the memory
        used, started = cpu_seconds(), time.perf_counter()
        held.append(run(folder))
        seconds.append(time.perf_counter() - started)
        busy.append(cpu_seconds() - used)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if name.startswith("medmm"):
        from medmm.dicom import pool

        pool.close_workers()
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    figures = {"seconds": min(seconds), "cpu": min(busy), "volumes": volumes, "mib": size}
    return {**figures, "peak_mib": peak, "child_mib": child}


def machine() -> str:
    info = Path("/proc/cpuinfo")
    model = "unknown processor"
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        model = f"{len(names)} cores of {names[0]}" if names else model
    return f"{model}, Python {platform.python_version()}, numpy {np.__version__}"


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """One row a tool: seconds and processor seconds, each with its ratio to the floor, and memory."""
    lines = [
        "| tool | MR s (× floor) | MR CPU s (×) | CT s (× floor) | CT CPU s (×) | peak MiB MR / CT | child MiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, sets in results.items():
        if not sets:
            lines.append(f"| {name} | failed | | failed | | | |")
            continue
        cells = []
        for kind in SETS:
            for figure in ("seconds", "cpu"):
                value = sets[kind][figure]
                cells.append(f"{value:.2f} ({value / results['floor'][kind][figure]:.1f})")
        peaks = " / ".join(f"{sets[kind]['peak_mib']:.0f}" for kind in SETS)
        child = max(sets[kind]["child_mib"] for kind in SETS)
        lines.append(f"| {name} | {' | '.join(cells)} | {peaks} | {child:.0f} |")
    return "\n".join(lines)


def one_round(name: str, folder: Path, repeats: int, results: dict[str, dict[str, dict[str, float]]]) -> None:
    """Measure one tool in a process of its own and keep the better time of this and earlier rounds."""
    for kind in SETS:
        command = [sys.executable, __file__, "--repeats", str(repeats), "--one", name, f"{folder}/{kind}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **MEMORY})
        if done.returncode:
            sys.stderr.write(f"{name}: {done.stderr[-600:]}\n")
            results[name] = {}
            return
        found = json.loads(done.stdout.splitlines()[-1])
        known = results.setdefault(name, {}).setdefault(kind, found)
        for figure in ("seconds", "cpu"):
            known[figure] = min(known[figure], found[figure])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tools", nargs="*", default=list(TOOLS))
    parser.add_argument("--write", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(measure(options.one[0], Path(options.one[1]), options.repeats)))
        return
    results: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        for _ in range(options.rounds):  # in turns, so that a busy minute of the machine hits every tool alike
            for name in options.tools:
                one_round(name, Path(folder), options.repeats, results)
    text = f"{machine()}\n\n{table(results)}\n"
    sys.stdout.write(text)
    if options.write:
        before, _, after = options.write.read_text(encoding="utf-8").partition("<!-- table -->\n")
        tail = after.partition("<!-- end -->\n")[2]
        options.write.write_text(f"{before}<!-- table -->\n{text}<!-- end -->\n{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
