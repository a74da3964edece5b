"""The caps under which files of unknown origin are read. Every number is an option; these are the defaults."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps per file and per volume. A file that breaks one is refused with the code named beside it."""

    voxels: int = 2**31  # a volume or a multi-frame object (limit.pixels)
    header_bytes: int = 256 * 2**20  # everything before the pixels (dicom.malformed)
    inflated_bytes: int = 512 * 2**20  # a deflated data set (limit.inflate)
    elements: int = 2_000_000  # attributes of one file, nested ones included (dicom.malformed)
    depth: int = 32  # nested sequences (dicom.nesting)
    memory_bytes: int = 4 * 2**30  # address space of a decode worker beside the volume it fills (limit.memory)
    seconds: float = 60.0  # one file in a decode worker (limit.time)


DEFAULT_LIMITS = Limits()
