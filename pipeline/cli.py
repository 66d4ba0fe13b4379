"""The command line: which verbs there are, and how one is called.

A verb is a frozen dataclass beside its owner with ``run() -> int`` (the exit code); tyro makes its
options. Only the verb that is called is imported, so ``uncus --help`` answers at once.
"""

import contextlib
import importlib
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

VERBS: dict[str, tuple[str, str]] = {
    "info": ("uncus.pipeline.info:Info", "versions, devices and what is registered"),
    "phantom": ("uncus.pipeline.phantom:MakePhantom", "make a synthetic cohort with known atrophy"),
    "prepare": (
        "uncus.pipeline.prepare:Prepare",
        "scans -> a cohort on one grid, ready to train on",
    ),
    "train": ("uncus.pipeline.train:Train", "train networks on a prepared cohort, fold by fold"),
    "evaluate": ("uncus.pipeline.evaluate:Evaluate", "metrics with intervals, beside baselines"),
    "predict": ("uncus.pipeline.predict:Predict", "probabilities and a saliency map for new scans"),
    "compare": (
        "uncus.pipeline.compare:Compare",
        "norms against each other at several batch sizes",
    ),
    "explain": ("uncus.pipeline.explain:Explain", "saliency maps of a scan by several methods"),
    "bench": (
        "uncus.pipeline.bench:Bench",
        "how fast the pieces are, beside what else one would use",
    ),
    "app": ("uncus.app.launch:App", "the web page: upload a scan, see the answer"),
    "demo": ("uncus.pipeline.demo:Demo", "the whole path on the phantom cohort, in minutes"),
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
        "uncus VERB --help shows a verb's options. Exit codes: 0 done, 1 some of many failed,\n"
        "2 refused (one line on stderr says why). UNCUS_TRACEBACK=1 shows where an error arose.\n"
    )


def load_verb(name: str) -> Any:
    """The dataclass of the verb ``name``."""
    module, _, attribute = VERBS[name][0].partition(":")
    return getattr(importlib.import_module(module), attribute)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; errors a user can mend become one line on stderr and exit code 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
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
        line = " ".join(str(error).split()) or type(error).__name__
        print(f"uncus: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("uncus: interrupted", file=sys.stderr)
        return 130


def call(verb: str, arguments: Sequence[str]) -> int:
    """Parse the verb's options and run it."""
    import tyro

    kind = load_verb(verb)
    defaults = kind.defaults(list(arguments)) if hasattr(kind, "defaults") else None
    options: dict[str, Any] = {} if defaults is None else {"default": defaults}
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            command = tyro.cli(kind, prog=f"uncus {verb}", args=list(arguments), **options)
    except SystemExit as stop:
        if not stop.code:
            return 0
        raise ValueError(one_line(complaint.getvalue())) from None
    return int(command.run())


def one_line(complaint: str) -> str:
    """What tyro draws as a box, as the one line that every refusal is."""
    text = re.sub(r"\x1b\[[0-9;]*m|[\u2500-\u257f]", " ", complaint)
    line = " ".join(text.split())
    # An option's own complaint says all there is to say; tyro wraps it in a title and a hint.
    title, hint = r"^Value error Error parsing [\w.]+: ", r"(?: For full helptext, see .*)?$"
    own = re.search(f"{title}(.*?){hint}", line)
    return own.group(1) if own else line


def nearest(verb: str) -> str:
    """What to type instead of an unknown verb."""
    import difflib

    close = difflib.get_close_matches(verb, VERBS, n=1)
    return f"did you mean {close[0]!r}?" if close else "uncus --help lists the verbs"


if __name__ == "__main__":
    sys.exit(main())
