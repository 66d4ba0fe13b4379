"""Work on strangers' files in a child process that may take neither all memory nor all time.

A decoder that meets a malicious file may crash, hang or allocate without end. Here that costs a
child process, and the caller gets one BadInput. The child is a fresh interpreter, not a fork (no
threads or GPU of the parent in it) and not multiprocessing's spawn (which runs the parent's main
module again): it imports this module and the task's alone.
"""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uncus.data.errors import BadInput

TASK, ANSWER = "task.json", "answer.json"
ROOT = Path(__file__).absolute().parents[3]


@dataclass(frozen=True)
class Bounds:
    """What a child may take.

    Parameters
    ----------
    memory: bytes of address space, the interpreter's own (about 0.3 GB) included.
    seconds: of the clock, and of processor time.
    disk: bytes of any one file that it writes.
    """

    memory: int = 4 << 30
    seconds: float = 180.0
    disk: int = 2 << 30


@contextmanager
def run(
    task: str, arguments: Mapping[str, Any], subject: object, bounds: Bounds = Bounds()
) -> Iterator[tuple[Path, Any]]:
    """Run ``task`` ("module:function") in a child; gives its folder and what it returned.

    The function is called as ``function(folder, **arguments)``; arguments and result go through
    JSON, larger results through files in the folder, which is removed in the end.

    Raises
    ------
    BadInput: the task did, or it broke a bound, or it crashed; the last two name ``subject``.
    """
    with tempfile.TemporaryDirectory(prefix="uncus-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        content = {"task": task, "arguments": dict(arguments), "bounds": asdict(bounds)}
        (folder / TASK).write_text(json.dumps(content), encoding="utf-8")
        code = _wait(folder, subject, bounds)
        yield folder, _answer(folder / ANSWER, code, subject, bounds)


def _wait(folder: Path, subject: object, bounds: Bounds) -> int:
    """Start the child and wait for it; its exit code, negative where a signal ended it."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    child = subprocess.Popen(
        # -P: nothing is imported from the folder the user happens to be in.
        [sys.executable, "-P", "-m", "uncus.data.dicom.sandbox", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None if os.environ.get("UNCUS_TRACEBACK") else subprocess.DEVNULL,
        env={**os.environ, **one_thread, "PYTHONPATH": path},
    )
    try:
        return child.wait(bounds.seconds)
    except subprocess.TimeoutExpired:
        raise _too_long(subject, bounds) from None
    finally:
        child.kill()
        child.wait()


def _answer(path: Path, code: int, subject: object, bounds: Bounds) -> Any:
    if code == -signal.SIGXCPU:
        raise _too_long(subject, bounds)
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise BadInput(
            subject, f"makes the decoder crash ({how})", "it is damaged; export the scan again"
        ) from None
    if "refused" in answer:
        raise BadInput(*answer["refused"])
    if "memory" in answer:
        limit = bounds.memory / 2**30
        raise BadInput(
            subject, f"takes more than {limit:.3g} GB of memory to decode", "export the scan again"
        )
    if "fault" in answer:
        raise BadInput(
            subject, f"cannot be decoded ({answer['fault']})", "it is damaged; export it again"
        )
    return answer["value"]


def _too_long(subject: object, bounds: Bounds) -> BadInput:
    return BadInput(
        subject, f"takes more than {bounds.seconds:g} s to decode", "export the scan again"
    )


def _bound(memory: int, seconds: float, disk: int) -> None:
    """Lower this process's own limits."""
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CPU: int(seconds) + 1,
        resource.RLIMIT_FSIZE: disk,
        resource.RLIMIT_CORE: 0,
    }
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing too much is an OSError then
    for kind, wanted in limits.items():
        _, hard = resource.getrlimit(kind)
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (soft, hard))


def _child(folder: Path) -> int:
    """The child's side: do the task, write the answer."""
    content = json.loads((folder / TASK).read_text(encoding="utf-8"))
    _bound(**content["bounds"])
    try:
        module, _, name = content["task"].partition(":")
        function = getattr(importlib.import_module(module), name)
        text = json.dumps({"value": function(folder, **content["arguments"])})
    except BadInput as error:
        text = json.dumps({"refused": [error.value, error.cause, error.remedy]})
    except MemoryError:
        text = json.dumps({"memory": True})
    except Exception as error:  # whatever a decoder does with a damaged file, the caller goes on
        if os.environ.get("UNCUS_TRACEBACK"):
            raise
        text = json.dumps({"fault": type(error).__name__})
    (folder / ANSWER).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_child(Path(sys.argv[1])))
