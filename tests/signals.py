"""Signals of the processes that tests start."""

import signal


def heed_signals() -> None:
    """To be called in a new process: nohup and shells in the background have theirs ignore some."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
