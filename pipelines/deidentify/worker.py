"""Children that de-identify files: killable, capped in memory and time, replaced when they die.

One request and one reply a file, JSON a line each. A file that ends its child is refused; the files behind it are not
touched by that.
"""

import base64
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medmm.dicom.limits import Limits
from medmm.errors import InputError, StopRun
from pipelines.deidentify.files import NotOurs, Written, deidentify_file
from pipelines.deidentify.options import Options

_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from pipelines.deidentify.worker import main; main()"
_START_SECONDS = 60.0  # a child has to import pydicom first, on a busy machine
_DEATHS = {
    -signal.SIGKILL: ("limit.memory", "The memory cap was reached while the file was read."),
    -signal.SIGALRM: ("limit.time", "The time cap was reached while the file was read."),
}


@dataclass(slots=True, kw_only=True)
class Child:
    """A process that cleans one file after the other. Not shared between threads."""

    output: Path
    key: bytes = field(repr=False)
    options: Options
    limits: Limits
    _process: subprocess.Popen[bytes] | None = None

    def clean(self, path: Path) -> Written | NotOurs:
        """Return what became of a file.

        Raises:
            InputError: As `deidentify_file`, `limit.time` and `limit.memory`, `decode.failed` for a crash.
            StopRun: `disk.full`.
        """
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(os.fspath(path)).encode() + b"\n")
            process.stdin.flush()
            line = self._line(process, self.limits.seconds)
        except BrokenPipeError:
            line = b""
        if not line:
            raise self._death(process)
        return _result(json.loads(line))

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        root = str(Path(__file__).resolve().parents[2])
        process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps([root, *(entry for entry in sys.path if entry)])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        )
        assert process.stdin is not None
        setup = {
            "output": os.fspath(self.output),
            "key": base64.b64encode(self.key).decode(),
            "options": self.options.model_dump(mode="json"),
            "limits": asdict(self.limits),
        }
        process.stdin.write(json.dumps(setup).encode() + b"\n")
        process.stdin.flush()
        self._process = process
        if not self._line(process, _START_SECONDS):
            raise self._death(process)
        return process

    def _line(self, process: subprocess.Popen[bytes], seconds: float) -> bytes:
        """Return the next line, b"" when the child is gone or takes too long (it is killed then)."""
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds + 1):
                process.send_signal(signal.SIGALRM)
                return b""
        return process.stdout.readline()

    def _death(self, process: subprocess.Popen[bytes]) -> InputError:
        status = process.wait()
        self.close()
        code, message = _DEATHS.get(status, ("decode.failed", "The process that read the file died."))
        return InputError(message, code=code, remedy="Leave the file out, or raise the limits if it is trusted.")


def main() -> None:
    """Serve requests of the parent until it closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    setup = json.loads(sys.stdin.buffer.readline())
    limits, options = Limits(**setup["limits"]), Options(**setup["options"])
    output, key = Path(setup["output"]), base64.b64decode(setup["key"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    cap = limits.memory_bytes if hard == resource.RLIM_INFINITY else min(limits.memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (cap, hard))
    _prepare_reading()
    _say({"ready": True})
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_REAL, limits.seconds)
        reply = _attempt(Path(json.loads(line)), output, key, options, limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _say(reply)


def _prepare_reading() -> None:
    from pydicom import config

    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE


def _attempt(path: Path, output: Path, key: bytes, options: Options, limits: Limits) -> dict[str, Any]:
    try:
        found = deidentify_file(path, output, key, options, limits)
    except InputError as error:
        return {"refused": [error.code, error.message, error.remedy]}
    except StopRun as error:
        return {"stopped": [error.code, error.message, error.remedy]}
    except MemoryError:
        return {"refused": ["limit.memory", "The memory cap was reached while the file was read.", ""]}
    except RecursionError:
        return {"refused": ["dicom.nesting", "Sequences are nested too deep.", ""]}
    return {"skipped": found.reason} if isinstance(found, NotOurs) else {"written": asdict(found)}


def _result(reply: dict[str, Any]) -> Written | NotOurs:
    if "refused" in reply:
        code, message, remedy = reply["refused"]
        raise InputError(message, code=code, remedy=remedy)
    if "stopped" in reply:
        code, message, remedy = reply["stopped"]
        raise StopRun(message, code=code, remedy=remedy)
    if "skipped" in reply:
        return NotOurs(reason=reply["skipped"])
    values = reply["written"]
    return Written(**{**values, "identifiers": tuple(values["identifiers"])})


def _say(reply: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
    sys.stdout.buffer.flush()
