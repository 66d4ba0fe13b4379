"""What the server and its pages share: the options it was started with, and the desk."""

import os
from functools import lru_cache
from pathlib import Path

from uncus.app.job_queue import Desk

RUN_VARIABLE = "UNCUS_APP_RUN"
"""Environment variable: the run that answers first."""
FOLDER_VARIABLE = "UNCUS_APP_RUNS"
"""Environment variable: the folder whose runs the page shows."""
PASSWORD_VARIABLE = "UNCUS_APP_PASSWORD"
"""Environment variable: the password that visitors must give."""
HEADER_VARIABLE = "UNCUS_APP_USER_HEADER"
"""Environment variable: the header by which a proxy names who has logged in."""


@lru_cache(maxsize=1)
def desk_of(run: str) -> Desk:
    """The desk, one for all visitors."""
    return Desk(Path(run))


def desk() -> Desk:
    """The desk of the run that the server was started with."""
    return desk_of(os.environ[RUN_VARIABLE])
