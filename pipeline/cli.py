"""The command line: the verbs and how they are run.

A verb is a frozen dataclass with ``run() -> int`` (the exit code); tyro turns its fields into
options. Only the verb that runs is imported, so that ``uncus --help`` is fast.
"""

import contextlib
import importlib
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from uncus.data import lean_monai
from uncus.data.errors import error_line
from uncus.pipeline import environment

VERBS: dict[str, tuple[str, str]] = {
    "info": ("uncus.pipeline.info:Info", "show versions and devices"),
    "phantom": ("uncus.pipeline.phantom:MakePhantom", "make a synthetic cohort with known atrophy"),
    "prepare": ("uncus.pipeline.prepare:Prepare", "bring scans onto one grid, ready for training"),
    "train": ("uncus.pipeline.train:Train", "train networks on a prepared cohort, fold by fold"),
    "evaluate": (
        "uncus.pipeline.evaluate:Evaluate",
        "compute metrics with confidence intervals, compared with baselines",
    ),
    "adapt": (
        "uncus.pipeline.adaptation.adapt:Adapt",
        "adapt a run to a new site, with or without labels of it",
    ),
    "audit": (
        "uncus.pipeline.audit.audit:Audit",
        "look for leaks, confounders, shortcuts and label errors",
    ),
    "predict": (
        "uncus.pipeline.predict:Predict",
        "predict new scans: probabilities and a saliency map",
    ),
    "models": ("uncus.pipeline.model_card.models:Models", "list the models that come with uncus"),
    "compare": (
        "uncus.pipeline.compare:Compare",
        "train and compare norms at several batch sizes",
    ),
    "explain": (
        "uncus.pipeline.explain:Explain",
        "compute saliency maps of a scan by several methods",
    ),
    "bench": (
        "uncus.pipeline.bench:Bench",
        "measure the speed of each part, compared with torch and MONAI",
    ),
    "app": ("uncus.app.launch:App", "serve the web app: upload a scan, see its prediction"),
    "demo": ("uncus.pipeline.demo:Demo", "run all steps on a synthetic cohort, in minutes"),
}


def usage() -> str:
    """The text of ``uncus --help``."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in VERBS.items())
    return (
        "usage: uncus VERB [options]\n\n"
        "Alzheimer's disease classification from 3D T1-weighted MRI, with Group Normalization\n"
        "at tiny batch sizes. Research use only, not a medical device.\n\n"
        f"verbs:\n{verbs}\n\n"
        "uncus VERB --help lists a verb's options. Exit codes: 0 success, 1 some of several scans\n"
        "failed or an audit found a fault, 2 error (one line on stderr). UNCUS_TRACEBACK=1 prints\n"
        "an error's traceback.\n"
    )


def load_verb(name: str) -> Any:
    """The dataclass of the verb ``name``."""
    module, _, attribute = VERBS[name][0].partition(":")
    return getattr(importlib.import_module(module), attribute)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; an error that a user can fix is one line on stderr and exit code 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    environment.adapt()
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, interrupt)
        if not arguments or arguments[0] in {"-h", "--help", "help"}:
            print(usage())
            return 0
        if arguments[0] == "--version":
            from uncus import __version__

            print(f"uncus {__version__}")
            return 0
        if arguments[0] not in VERBS:
            raise ValueError(f"unknown verb {arguments[0]!r}; {nearest(arguments[0])}")
        return call(arguments[0], arguments[1:])
    except (ValueError, OSError, MemoryError) as error:
        if os.environ.get("UNCUS_TRACEBACK"):
            raise
        print(f"uncus: {error_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("uncus: interrupted", file=sys.stderr)
        return 130


def interrupt(*_: object) -> None:
    """End like Ctrl-C: how batch systems and containers ask a process to end."""
    raise KeyboardInterrupt


def call(verb: str, arguments: Sequence[str]) -> int:
    """Parse a verb's options and run it."""
    with environment.importing():
        import tyro

        if verb in {"predict", "explain"}:
            environment.keep_memory()
            lean_monai.load()
        kind = load_verb(verb)
    defaults = kind.defaults(list(arguments)) if hasattr(kind, "defaults") else None
    options: dict[str, Any] = {} if defaults is None else {"default": defaults}
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            command = tyro.cli(kind, prog=f"uncus {verb}", args=list(arguments), **options)
    except SystemExit as stop:
        if not stop.code:
            return 0
        raise ValueError(one_line(message.getvalue())) from None
    return int(command.run())


def one_line(message: str) -> str:
    """tyro's error message, which it prints in a box, as one line."""
    text = re.sub(r"\x1b\[[0-9;]*m|[\u2500-\u257f]", " ", message)
    line = " ".join(text.split())
    # The error of a value is complete without the title and the hint that tyro adds.
    title, hint = r"^Value error Error parsing [\w.]+: ", r"(?: For full helptext, see .*)?$"
    match = re.search(f"{title}(.*?){hint}", line)
    return match.group(1) if match else line


def nearest(verb: str) -> str:
    """A suggestion for an unknown verb."""
    import difflib

    close = difflib.get_close_matches(verb, VERBS, n=1)
    return f"did you mean {close[0]!r}?" if close else "uncus --help lists the verbs"


if __name__ == "__main__":
    sys.exit(main())
