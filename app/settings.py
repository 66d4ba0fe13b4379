"""Shared by the server and its pages: the options of the start, and the job queue."""

import os
from functools import lru_cache
from pathlib import Path

from uncus.app.job_queue import JobQueue

RUN_VARIABLE = "UNCUS_APP_RUN"
"""Environment variable: the run that is selected first."""
FOLDER_VARIABLE = "UNCUS_APP_RUNS"
"""Environment variable: the folder whose runs the page shows."""
PASSWORD_VARIABLE = "UNCUS_APP_PASSWORD"
"""Environment variable: the password of the page. The command takes it out of its environment and
passes it to the server through a pipe, so that no other process gets it."""
LOGIN_VARIABLE = "UNCUS_APP_LOGIN"
"""Environment variable: not empty if the page has a password, so that one can log out."""
HEADER_VARIABLE = "UNCUS_APP_USER_HEADER"
"""Environment variable: the header in which a proxy passes the user's name."""


@lru_cache(maxsize=1)
def job_queue_of(run: str) -> JobQueue:
    """The job queue, one for all users."""
    return JobQueue(Path(run))


def job_queue() -> JobQueue:
    """The job queue for the run that the server was started with."""
    return job_queue_of(os.environ[RUN_VARIABLE])
