"""Everything medmm raises on purpose, and the one list of failure codes.

    MedmmError
    ├── InputError     one file, series or case cannot be used: the batch records it and goes on (REFUSE)
    ├── UsageError     wrong call, configuration, model or device: nothing is started (exit code 2)
    └── StopRun        the run cannot go on, but can be resumed (exit code 3): disk full, signal

Codes are stable and dotted; `CODES` says in a sentence what each means. Messages name tags as DICOM does and never
hold a patient's name, an identifier or a word of a report: they go into logs and tables.
"""

CODES: dict[str, str] = {
    "dicom.no_meta": "The file has no preamble or file meta information.",
    "dicom.truncated": "The file ends before its data set does.",
    "dicom.empty": "The file parses to an empty data set.",
    "dicom.malformed": "The file is not well-formed DICOM.",
    "dicom.nesting": "Sequences are nested deeper than the limit.",
    "dicom.bad_value": "A needed attribute has a value that the standard does not allow.",
    "dicom.missing_tag": "A needed attribute is missing or has several values where one is due.",
    "dicom.no_pixels": "An image object has no pixel data.",
    "dicom.pixel_length": "Pixel data is longer or shorter than the header says.",
    "dicom.polyglot": "The preamble starts like an executable program.",
    "decode.failed": "Compressed pixels could not be decoded.",
    "decode.unsupported": "No installed decoder reads this transfer syntax.",
    "image.lossy": "Pixels were compressed with loss.",
    "image.nonfinite": "The volume holds NaN or infinite values.",
    "image.constant": "The volume holds one value only.",
    "image.color": "The image has colour where one channel is due.",
    "image.out_of_domain": "The volume is outside what the model was trained for.",
    "image.burned_in": "Text may be burned into the pixels, or a face may be reconstructed from them.",
    "series.too_few": "The series has fewer slices than are needed.",
    "series.gap": "Slices are missing or unevenly spaced.",
    "series.duplicate": "Two slices claim the same place with different pixels.",
    "series.mixed": "Slices of one series differ in size, spacing or orientation.",
    "series.multi_volume": "One series holds several volumes (echoes, phases, b-values, time points).",
    "series.tilt": "Slices are sheared (gantry tilt).",
    "series.choice": "Several series fit one role and one was chosen.",
    "series.none": "No series of the study fits what the model needs.",
    "identity.conflict": "Files or tables disagree on whose data this is.",
    "report.empty": "The report has no content.",
    "report.truncated": "The report is longer than the model reads.",
    "report.format": "The report is not text.",
    "report.choice": "Several reports belong to one study and one was chosen.",
    "report.language": "The report is not in the model's language.",
    "report.label_leak": "The report contains the answer itself.",
    "text.charset": "Text could not be decoded as declared.",
    "record.source": "A field of the record was taken from the DICOM header.",
    "record.value": "A field of the record has a value outside what is possible, and was left out.",
    "modality.missing": "A modality that the model requires is absent.",
    "explain.failed": "An explanation method failed; the diagnosis stands without it.",
    "explain.check": "An explanation did not pass one of its own tests.",
    "io.unreadable": "The file cannot be opened.",
    "io.changed": "The file changed between discovery and reading.",
    "io.read": "Reading failed after retries.",
    "limit.pixels": "The header claims more pixels than the limit.",
    "limit.inflate": "The compressed data set inflates past the limit.",
    "limit.archive": "The archive breaks a rule or a limit.",
    "limit.memory": "The memory cap was reached.",
    "limit.time": "The time cap was reached.",
    "limit.gpu_memory": "The volume does not fit into the device's memory.",
    "limit.kg": "A search of the knowledge graph reached its cap.",
    "kg.load": "A knowledge-graph source cannot be read.",
    "kg.unsafe_xml": "A knowledge-graph file holds an unsafe XML construct.",
    "kg.quality": "The knowledge graph has defects that were repaired or left out.",
    "kg.no_match": "Nothing of this case is in the knowledge graph.",
    "kg.version": "The knowledge graph is not the one that the model was trained with.",
    "model.unsafe": "The weights are in a format that can execute code.",
    "model.corrupt": "The model's files do not match their hashes or shapes.",
    "model.incomplete": "The model directory lacks a needed piece.",
    "model.mismatch": "The model and the input or configuration do not fit together.",
    "output.source": "A DICOM result cannot be written, because it cannot refer to its source instances.",
    "output.rebuilt": "The report was written again from its files, not from the images.",
    "config.key": "A configuration key or value is not known.",
    "config.table": "A table lacks a needed column or has ambiguous keys.",
    "config.output": "The output folder cannot be used.",
    "device.none": "The requested device is not there.",
    "disk.full": "There is no space left to write.",
    "run.interrupted": "The run was stopped by a signal.",
    "internal.error": "An unexpected error; the traceback is in the debug log.",
}


class MedmmError(Exception):
    """Everything medmm raises on purpose: a code, one sentence on what is wrong, one on what to do."""

    def __init__(self, message: str, *, code: str, remedy: str = "") -> None:
        if code not in CODES:
            raise ValueError(f"Expected a code of medmm.errors.CODES (got {code!r}).")
        super().__init__(message)
        self.message = message
        self.code = code
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (decode workers); the default would lose the keyword arguments.
        return (_rebuild, (type(self), self.message, self.code, self.remedy))


class InputError(MedmmError):
    """One file, series or case cannot be used; the rest of a batch goes on."""


class UsageError(MedmmError):
    """A call, configuration, model or device is wrong; nothing was started."""


class StopRun(MedmmError):  # noqa: N818  # a stop is not an error: the run can be resumed
    """The run ends early in a state that can be resumed."""


def _rebuild(kind: type[MedmmError], message: str, code: str, remedy: str) -> MedmmError:
    return kind(message, code=code, remedy=remedy)
