"""The programs of dcmtk, where they are installed."""

import shutil
import subprocess


def find_dcmtk(name: str) -> str | None:
    """Return a program's path; None where it is missing or is pynetdicom's, which has commands of the same names."""
    program = shutil.which(name)
    if program is None:
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return program if "dcmtk" in said else None
