"""The identity of a source file."""

import hashlib
from pathlib import Path


def file_fingerprint(path: Path) -> str:
    """Return SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
