"""Decode untrusted files in a child process with limits on memory, time and disk.

A malicious file may make a decoder crash, hang or allocate without end. Here that costs a child
process, and the caller gets one BadInput. The child is a fresh interpreter, not a fork (which
would inherit the parent's threads and GPU) and not multiprocessing's spawn (which runs the
parent's main module again): it imports only this module and the task's.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uncus
from uncus.data.errors import BadInput

TASK, RESULT = "task.json", "result.json"
INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "UNCUS_TRACEBACK")
"""Environment variables that the child gets; others may contain secrets."""
ROOT = Path(uncus.__file__).absolute().parents[1]  # the folder that contains the package


@dataclass(frozen=True)
class ProcessLimits:
    """Limits on a child process.

    Parameters
    ----------
    memory: bytes of address space, including the interpreter's own (about 0.3 GB).
    seconds: of wall-clock time, and of processor time.
    disk: bytes of any one file that it writes.
    """

    memory: int = 4 << 30
    seconds: float = 180.0
    disk: int = 2 << 30


@contextmanager
def run(
    task: str, arguments: Mapping[str, Any], source: object, limits: ProcessLimits = ProcessLimits()
) -> Iterator[tuple[Path, Any]]:
    """Run ``task`` ("module:function") in a child; yield its folder and its result.

    The function is called as ``function(folder, **arguments)``; arguments and result go through
    JSON, larger results through files in the folder, which is removed on exit.

    Raises
    ------
    BadInput: raised by the task, or naming ``source``: it exceeded a limit or crashed.
    """
    with tempfile.TemporaryDirectory(prefix="uncus-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        content = {"task": task, "arguments": dict(arguments), "limits": asdict(limits)}
        (folder / TASK).write_text(json.dumps(content), encoding="utf-8")
        code = _wait(folder, source, limits)
        yield folder, _read_result(folder / RESULT, code, source, limits)


def _wait(folder: Path, source: object, limits: ProcessLimits) -> int:
    """Start the child and wait for it; its exit code, negative where a signal ended it."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    child = subprocess.Popen(
        # -P: import nothing from the current folder.
        [sys.executable, "-P", "-m", "uncus.data.dicom.sandbox", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None if os.environ.get("UNCUS_TRACEBACK") else subprocess.DEVNULL,
        env={
            **{name: os.environ[name] for name in INHERITED if name in os.environ},
            **one_thread,
            "PYTHONPATH": path,
        },
    )
    try:
        return child.wait(limits.seconds)
    except subprocess.TimeoutExpired:
        raise _too_long(source, limits) from None
    finally:
        child.kill()
        child.wait()


def _read_result(path: Path, code: int, source: object, limits: ProcessLimits) -> Any:
    if code == -signal.SIGXCPU:
        raise _too_long(source, limits)
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise BadInput(
            source, f"makes the decoder crash ({how})", "export the scan again"
        ) from None
    if "rejected" in result:
        raise BadInput(*result["rejected"])
    if "memory" in result:
        gigabytes = limits.memory / 2**30
        raise BadInput(
            source,
            f"needs more than {gigabytes:.3g} GB of memory to decode",
            "export the scan again",
        )
    if "failed" in result:
        raise BadInput(source, f"cannot be decoded ({result['failed']})", "export it again")
    return result["value"]


def _too_long(source: object, limits: ProcessLimits) -> BadInput:
    return BadInput(
        source, f"takes more than {limits.seconds:g} s to decode", "export the scan again"
    )


def _limit(memory: int, seconds: float, disk: int) -> None:
    """Lower this process's own limits, as far as the system allows (macOS: no RLIMIT_AS)."""
    import resource

    values = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CPU: int(seconds) + 1,
        resource.RLIMIT_FSIZE: disk,
        resource.RLIMIT_CORE: 0,
    }
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing too much is an OSError then
    for kind, wanted in values.items():
        _, hard = resource.getrlimit(kind)
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (soft, hard))


def _child(folder: Path) -> int:
    """Run the task and write its result, in the child."""
    content = json.loads((folder / TASK).read_text(encoding="utf-8"))
    _limit(**content["limits"])
    try:
        module, _, name = content["task"].partition(":")
        function = getattr(importlib.import_module(module), name)
        text = json.dumps({"value": function(folder, **content["arguments"])})
    except BadInput as error:
        text = json.dumps({"rejected": [error.value, error.cause, error.remedy]})
    except MemoryError:
        text = json.dumps({"memory": True})
    except Exception as error:  # decoders raise many kinds on damaged files
        if os.environ.get("UNCUS_TRACEBACK"):
            raise
        text = json.dumps({"failed": type(error).__name__})
    (folder / RESULT).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_child(Path(sys.argv[1])))
