"""Several scans, a table, a CSV."""

from app.desk import Desk
from pipeline.runs import Run


def batch(run: Run, desk: Desk) -> None:
    """The tab."""
    del run, desk
