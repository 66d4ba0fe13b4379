"""Options of the verbs that predict single scans."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

import tyro

RUN = tyro.conf.arg(metavar="[RUN]", help_behavior_hint="")
SCANS = tyro.conf.arg(metavar="SCAN...", help_behavior_hint="")


@dataclass(frozen=True)
class ScanOptions:
    """A run, and how to read and explain a scan."""

    trained: Annotated[Path | None, tyro.conf.Positional, RUN] = None
    """Folder of uncus train, or the name of a built-in model (uncus models lists them); without it
    the built-in model dementia answers."""
    _: KW_ONLY
    explain: Annotated[str, tyro.conf.arg(name="class", metavar="NAME")] = ""
    """Class to explain; by default the most probable one."""
    series: str = ""
    """Which of several DICOM series: its number in the list, its UID, or words of its
    description."""
    covariates: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE...")] = ()
    """Covariates of the subject, age=72 sex=F, for a run trained with --covariates; by default from
    the participants.tsv of the scan's BIDS tree, or from its DICOM header."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 ..."""
