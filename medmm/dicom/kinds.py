"""What a file that is no DICOM looks like, from its first bytes."""

import os
from pathlib import Path

from medmm.dicom.disk import open_regular, read_at

_ARCHIVES = (
    (b"\x1f\x8b", 0, "gzip archive"),
    (b"PK\x03\x04", 0, "zip archive"),
    (b"PK\x05\x06", 0, "zip archive"),
    (b"ustar", 257, "tar archive"),
    (b"BZh", 0, "bzip2 archive"),
    (b"\xfd7zXZ\0", 0, "xz archive"),
    (b"7z\xbc\xaf\x27\x1c", 0, "7z archive"),
    (b"Rar!\x1a\x07", 0, "rar archive"),
    (b"\x28\xb5\x2f\xfd", 0, "zstd archive"),
)
_OTHERS = (
    (b"\x89PNG", 0, "PNG image"),
    (b"\xff\xd8\xff", 0, "JPEG image"),
    (b"%PDF", 0, "PDF document"),
    (b"<", 0, "HTML or XML text"),
    (b"\x5c\x01\x00\x00", 0, "NIfTI image"),
)
_HEAD = 512


def kind_of(head: bytes) -> str:
    """What a file that is not DICOM looks like, in words."""
    for magic, at, kind in (*_ARCHIVES, *_OTHERS):
        if head.startswith(magic, at):
            return f"not DICOM: {kind}"
    if not any(head):
        return "not DICOM: zero bytes"
    return "not DICOM: text" if b"\0" not in head[:1024] else "not DICOM"


def archive_kind(path: Path) -> str:
    """Which archive a file is; '' when none (a DICOM file whose preamble looks like one is none).

    Raises:
        InputError: io.unreadable, io.read.
    """
    descriptor = open_regular(path)
    try:
        head = read_at(descriptor, _HEAD, 0)
    finally:
        os.close(descriptor)
    if head[128:132] == b"DICM":
        return ""
    return next((kind for magic, at, kind in _ARCHIVES if head.startswith(magic, at)), "")
