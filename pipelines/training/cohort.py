"""The cases to learn from: read once, kept as small as training needs them, with their right answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medmm.config import ModelConfig, TaskSpec
from medmm.encoders.record import CategoricalField, NumericField, RecordField
from medmm.errors import UsageError
from medmm.preprocess import Preprocessing, prepare_volume, region_to_model_grid
from medmm.preprocess_images import ImagePreprocessing, prepare_images
from medmm.report_leak import cover_answers
from medmm.types import Case
from pipelines.engine import Refused, attempt
from pipelines.evaluation.answers import read_mask
from pipelines.labels import parse_labels
from pipelines.manifest import ManifestRow
from pipelines.training.leaks import Fingerprint, fingerprint_of
from pipelines.training.where import WhereExample

MAX_KEPT_BYTES = 2 * 2**30  # voxels of cases kept in memory; what does not fit is read again where it is needed
_MIN_DEVIATION = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How cases are read: what of them, and whether the label's own words in reports are covered.

    `preprocessing` is for a trunk to learn from masks, `images` for an image network that learns.
    """

    tasks: tuple[TaskSpec, ...]
    preprocessing: Preprocessing | None = None
    images: ImagePreprocessing | None = None
    masks_label: bool = False
    n_regions: int = 0


class Cohort:
    """N cases with their answers. `targets` by task, as `pipelines.labels` has them; `refused` could not be read."""

    def __init__(self, reading: Reading, store: Path) -> None:
        self.reading = reading
        self.store = store
        self.rows: list[ManifestRow] = []
        self.prints: list[Fingerprint] = []
        self.refused: dict[str, Refused] = {}
        self.targets: dict[str, np.ndarray] = {}
        self.input_hashes: list[Mapping[str, str]] = []
        self._kept: dict[int, Case] = {}
        self._kept_bytes = 0
        self._examples: dict[int, WhereExample] = {}
        self._pixels: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def patients(self) -> np.ndarray:
        """Whose cases they are (N,)."""
        return np.array([row.patient for row in self.rows], dtype=object)

    def add(self, row: ManifestRow) -> Refused | None:
        """Read a case, keep what training needs of it, and return why it cannot be used, if so."""
        index = len(self.rows)
        case = attempt("read", lambda: self._read(row))
        example = case if isinstance(case, Refused) else attempt("read", lambda: self._learnable(index, row, case))
        if isinstance(case, Refused) or isinstance(example, Refused):
            refused = case if isinstance(case, Refused) else example
            self.refused[row.case] = refused  # type: ignore[assignment]  # one of the two is
            return refused  # type: ignore[return-value]  # one of the two is
        self.rows.append(row)
        self.prints.append(fingerprint_of(case, row, self.reading.tasks))
        self.input_hashes.append(case.input_hashes)
        size = sum(volume.voxels.nbytes for volume in case.volumes.values())
        if self._kept_bytes + size <= MAX_KEPT_BYTES:
            self._kept[index], self._kept_bytes = case, self._kept_bytes + size
        return None

    def close(self) -> None:
        """Work out the targets once all cases are there."""
        for task in self.reading.tasks:
            self.targets[task.name] = parse_labels(task, [row.labels.get(task.name, "") for row in self.rows])

    def case(self, index: int) -> Case:
        """The case with its pixels."""
        return self._kept[index] if index in self._kept else self._read(self.rows[index])

    def example(self, index: int) -> WhereExample | None:
        """The case as the trunk sees it in training; None without a mask."""
        return self._examples.get(index)

    def pixels(self, index: int) -> np.ndarray | None:
        """The case's images (n, 1, *S) for a network that learns; None where there is none."""
        return self._pixels.get(index)

    def forget(self) -> None:
        """Let go of the pixels, where they are not needed any more."""
        self._kept.clear()

    def _read(self, row: ManifestRow) -> Case:
        case = row.read()
        if not self.reading.masks_label or case.report is None:
            return case
        answers = [name for task in self.reading.tasks for label in task.classes for name in (label.name, label.title)]
        return replace(case, report=cover_answers(case.report, answers))

    def _learnable(self, index: int, row: ManifestRow, case: Case) -> None:
        """Keep what networks learn from: the trunk's example, the image network's pixels."""
        example = self._example(index, row, case)
        prepared = prepare_images(case.volumes, self.reading.images) if self.reading.images is not None else None
        if example is not None:
            self._examples[index] = example
        if prepared is not None:
            self._pixels[index] = self._stored(f"{index}-pixels.npy", prepared.array.astype(np.float16))

    def _example(self, index: int, row: ManifestRow, case: Case) -> WhereExample | None:
        """Arrays go to the disk and come back memory-mapped: as many cases as there are, in bounded memory."""
        spec = self.reading.preprocessing
        if spec is None or row.mask is None:
            return None
        prepared = prepare_volume(case.volumes, spec)
        if prepared is None:
            return None
        mask = read_mask(row.mask)
        parts = [mask > 0] if self.reading.n_regions == 1 else [mask == n + 1 for n in range(self.reading.n_regions)]
        regions = np.stack([region_to_model_grid(part.astype(np.uint8), prepared.grid) for part in parts])
        return WhereExample(
            case=row.case,
            array=self._stored(f"{index}-image.npy", prepared.array.astype(np.float16)),
            present=prepared.present,
            regions=self._stored(f"{index}-regions.npy", regions),
        )

    def _stored(self, name: str, array: np.ndarray) -> np.ndarray:
        self.store.mkdir(parents=True, exist_ok=True)
        np.save(self.store / name, array, allow_pickle=False)
        mapped: np.ndarray = np.load(self.store / name, mmap_mode="r", allow_pickle=False)
        return mapped


def read_cohort(
    rows: Sequence[ManifestRow], reading: Reading, store: Path, *, may_skip: bool, tell: Callable[[int, int], None]
) -> Cohort:
    """Return all cases; `tell(done, total)` is called after each.

    Raises:
        UsageError: With the first case's code where any cannot be read, unless `may_skip`.
    """
    cohort = Cohort(reading, store)
    for number, row in enumerate(rows, 1):
        refused = cohort.add(row)
        if refused is not None and not may_skip:
            raise UsageError(
                f"The case in row {number} of those to learn from cannot be used: {refused.reason}",
                code=refused.code,
                remedy="Mend it, take it out of the manifest, or set may_skip = true under [data].",
            )
        tell(number, len(rows))
    cohort.close()
    return cohort


def record_fields(names: Sequence[str], cohort: Cohort, rows: np.ndarray) -> tuple[RecordField, ...]:
    """Return the record's fields with mean and deviation, or categories, of these rows.

    A column is numeric where all its known values are numbers.

    Raises:
        UsageError: `config.table` for a column that no row has a value of.
    """
    fields: list[RecordField] = []
    for name in names:
        records = [case.record for case in map(cohort.case, rows) if case.record is not None]
        values = [record.values[name] for record in records if name in record.values]
        if not values:
            raise UsageError(
                f"No case to learn from has a value of record.{name}.",
                code="config.table",
                remedy="Check the manifest's column, or take the field out of `record`.",
            )
        numbers = [value for value in values if isinstance(value, float)]
        if len(numbers) == len(values):
            deviation = max(float(np.std(numbers)), _MIN_DEVIATION)
            fields.append(NumericField(name=name, mean=float(np.mean(numbers)), deviation=deviation))
        else:
            categories = tuple(sorted({str(value).strip().lower() for value in values}))
            fields.append(CategoricalField(name=name, categories=categories))
    return tuple(fields)


def with_record(config: ModelConfig, names: Sequence[str], cohort: Cohort, rows: np.ndarray) -> ModelConfig:
    """Return the configuration with the record's fields as these rows have them."""
    return config.model_copy(update={"record": record_fields(names, cohort, rows)})
