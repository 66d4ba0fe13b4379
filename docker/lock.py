"""Writes docker/requirements.txt: every package of the images, pinned.

Run it in the development environment after a dependency changed:

    .venv/bin/python docker/lock.py

What is installed there, and so tested, is kept; what is missing is resolved to the newest. torch's
version is the one of constraints.txt. Its build (CPU or CUDA) is the Dockerfile's business, as are
the CUDA packages, which torch itself pins.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = ("app", "fast")
HEADER = "# Written by docker/lock.py: what the images hold beside torch and uncus.\n"


def wanted() -> list[str]:
    """The requirements of pyproject.toml that the images need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(line for name in EXTRAS for line in extras[name])]


def main() -> None:
    """Resolve with pip, installing nothing, and write the pins."""
    pip = [sys.executable, "-m", "pip"]
    installed = subprocess.run(
        [*pip, "freeze", "--exclude-editable"], check=True, capture_output=True, text=True
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        report, kept = Path(folder, "report.json"), Path(folder, "kept.txt")
        lines = (line for line in installed.splitlines() if not line.startswith("torch=="))
        kept.write_text("\n".join(lines))
        options = ["--dry-run", "--ignore-installed", "--quiet", "--report", str(report)]
        constraints = ["-c", str(ROOT / "constraints.txt"), "-c", str(kept)]
        subprocess.run([*pip, "install", *options, *constraints, *wanted()], check=True)
        found = {
            re.sub(r"[-_.]+", "-", entry["metadata"]["name"]).lower(): entry["metadata"]["version"]
            for entry in json.loads(report.read_text())["install"]
        }
    del found["torch"]
    lines = "".join(f"{name}=={version}\n" for name, version in sorted(found.items()))
    (ROOT / "docker" / "requirements.txt").write_text(HEADER + lines, encoding="utf-8")


if __name__ == "__main__":
    main()
