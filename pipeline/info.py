"""``uncus info``: versions and devices."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from uncus import NOTICE
from uncus.pipeline import environment


@dataclass(frozen=True)
class Info:
    """Show versions and devices. torch is not imported."""

    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON."""

    def run(self) -> int:
        """Print and return 0."""
        driver = Path("/proc/driver/nvidia/gpus")
        facts = {
            "versions": environment.versions(),
            "cpus": environment.cpu_count(),
            "nvidia_gpus": len(list(driver.iterdir())) if driver.is_dir() else 0,
            "notice": NOTICE,
        }
        if self.as_json:
            print(json.dumps(facts, indent=2))
            return 0
        for name, version in environment.versions().items():
            print(f"{name:<14}{version}")
        print(f"{'cpus':<14}{facts['cpus']}\n{'nvidia gpus':<14}{facts['nvidia_gpus']}\n{NOTICE}")
        return 0
