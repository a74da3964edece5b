"""Opaque names for cases and files: keyed hashes, so that outputs can be shared and nobody's id can be guessed back.

The key is a file of the user (mode 0600), made on first use: the same study has the same case id in every run of that
user, which makes runs comparable, and nobody without the key can test whether a known id is among the cases.
"""

import hashlib
import hmac
import json
import os
import tempfile
from pathlib import Path

from medmm.errors import UsageError

KEY_BYTES = 32
DIGITS = 12


def default_key_path() -> Path:
    """Where the user's key lies unless one is named: `$XDG_CONFIG_HOME/medmm/id_key`, else under `~/.config`."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base else Path.home() / ".config") / "medmm" / "id_key"


def load_key(path: Path | None = None) -> bytes:
    """Return the key in `path` (the user's own by default), making it where there is none.

    Raises:
        UsageError: `config.output` where it can neither be read nor made, or has not at least 32 bytes.
    """
    place = default_key_path() if path is None else path
    try:
        if not place.exists():
            _create(place)
        key = place.read_bytes()
    except OSError as error:
        raise UsageError(
            f"The key that makes case ids opaque can be neither read nor made ({error.strerror}).",
            code="config.output",
            remedy="Name a readable key file of at least 32 random bytes (--id-key FILE).",
        ) from None
    if len(key) < KEY_BYTES:
        raise UsageError(
            f"Expected a key of at least {KEY_BYTES} bytes for case ids (got {len(key)}).",
            code="config.output",
            remedy="Remove the key file to have a new one made, or name another (--id-key FILE).",
        )
    return key


def opaque_id(kind: str, key: bytes, *parts: str) -> str:
    """Return `<kind>-<12 hex digits>`, the keyed hash of `parts`, each kept apart: ("a", "bc") is not ("ab", "c")."""
    message = json.dumps([kind, *parts]).encode()
    return f"{kind}-{hmac.new(key, message, hashlib.sha256).hexdigest()[:DIGITS]}"


def shard_of(study_uid: str, count: int) -> int:
    """Which of `count` shards a study belongs to, 1 to `count`; needs no key, so that every machine agrees."""
    digest = hashlib.sha256(study_uid.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % count + 1


def _create(place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=".id_key-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(os.urandom(KEY_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        os.link(name, place)  # fails where another process was first; then its key is the one
    except FileExistsError:
        pass
    finally:
        Path(name).unlink(missing_ok=True)
