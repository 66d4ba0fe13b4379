"""The environment of a run: versions, devices, and what a process needs of the system."""

import atexit
import getpass
import io
import os
import platform
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("uncus", "torch", "monai", "lightning", "nibabel", "numpy", "scipy", "scikit-learn")


def adapt() -> None:
    """Make up for what the system lacks, as in containers and batch jobs, before other imports.

    A terminal that cannot show a character shows ``?``. A user ID without a name gets one, which
    MONAI and torch ask for. matplotlib gets a temporary folder where there is no home.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
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


def versions() -> dict[str, str]:
    """Package -> installed version, or ``absent``. None of them is imported."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = "absent"
    return installed


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
