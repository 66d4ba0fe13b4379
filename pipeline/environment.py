"""The environment of a run: versions, devices, its call, and what a process needs of the system."""

import atexit
import ctypes
import gc
import getpass
import io
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uncus import __version__
from uncus.data.errors import BadInput, one_line

if TYPE_CHECKING:
    import torch

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Of glibc's mallopt: free bytes at the end that are given back; maps for large blocks; heaps."""
PACKAGES = ("uncus", "torch", "monai", "lightning", "nibabel", "numpy", "scipy", "scikit-learn")


def adapt() -> None:
    """Make up for what the system lacks, as in containers and batch jobs, before other imports.

    A terminal that cannot show a character shows ``?``; a warning is one line. A user ID without a
    name gets one, which MONAI and torch ask for. matplotlib gets a temporary folder where there is
    no home.
    """
    # Threads that spin while they wait take the cores from others: 4 times slower on shared ones.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    warnings.formatwarning = lambda message, *_, **__: f"warning: {one_line(str(message))}\n"
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
    try:
        home = Path.home()
    except RuntimeError:
        home = Path("/nonexistent")
    if not os.access(home, os.W_OK) and not os.environ.get("MPLCONFIGDIR"):
        folder = os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp(prefix="uncus-matplotlib-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


@contextmanager
def importing() -> Iterator[None]:
    """Python does not search for garbage within, and never again among what is there at the end.

    Imports make some 600,000 objects that all stay: searching them again and again takes a quarter
    of the time of the imports.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def keep_memory() -> None:
    """Arrays that are freed leave their memory to the next ones (glibc's malloc).

    Otherwise each large array is given back and its successor cleared by the system, page by page:
    a tenth of the time of a prediction. For processes that end soon.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_ARENA_MAX, 1)  # threads use one heap: a third less memory


def versions() -> dict[str, str]:
    """Package -> installed version, or ``absent``. None of them is imported."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = "absent"
    return installed


@contextmanager
def shielded() -> Iterator[None]:
    """Processes that are started within ignore Ctrl-C, which a terminal sends to them all.

    Their parent ends them, and says so in one line.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def cpu_count() -> int:
    """CPUs that this process may use; all CPUs on systems without affinities (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def why_no_gpu() -> str:
    """Why torch has no CUDA device, with the remedy; "" if it has one."""
    import torch

    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        return "this torch is built for CPUs alone; install its CUDA build"
    return "torch finds no GPU; check the driver with nvidia-smi; a container needs --gpus all"


def torch_device(name: str) -> "torch.device":
    """The device of this name, as of ``--device``; raises BadInput where torch cannot use it."""
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        missing = why_no_gpu() if name.startswith("cuda") else ""
        cause = missing or f"cannot be used ({str(error).splitlines()[0]})"
        remedy = f"{'or ' if missing else ''}use --device cpu"
        raise BadInput(f"--device {name}", cause, remedy) from None
    return device


def this_call() -> dict[str, str]:
    """Date (UTC), command line and version of the code."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        # Names of files may contain bytes that are no text.
        "command": shlex.join(words).encode("utf-8", "backslashreplace").decode(),
        "code": code_version(),
    }


def code_version() -> str:
    """The version of uncus; of a checkout with its commit, and whether files differ from it."""
    folder = Path(__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        return __version__
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):  # no git, or not ours to read
        return __version__
    return f"{__version__}, commit {done.stdout.strip()}"


def describe() -> dict[str, Any]:
    """Versions, the operating system and torch's devices."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }
