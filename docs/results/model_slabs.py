"""Evaluate the built-in model of dementia on slabs of OASIS-1 that it was not trained on.

    python docs/results/model_slabs.py SOURCE WORK

SOURCE is a BIDS-like tree of slabs as that of model.py, with age and cdr in its participants.tsv;
WORK a folder for the placed slabs, the cohort and the report. Slabs cannot be registered as heads
are, so a copy of the model takes them where their affine puts them. Its log-odds are those for
whole heads (model.md), which lowers the probabilities and leaves the AUC.
"""

import shutil
import sys
from pathlib import Path

from model import place_slabs

from uncus.data import files
from uncus.pipeline.builtin.catalog import FOLDER
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run

TASK = ("--target", "cdr", "--classes", "CN=0", "AD=0.5,1,2", "--where", "age >= 60")


def for_slabs(model: Run, out: Run) -> None:
    """Copy a model of whole heads for scans that are placed already."""
    shutil.rmtree(out.path, ignore_errors=True)
    shutil.copytree(model.model_folder, out.model_folder)
    files.write_json(out.card_path, model.card | {"space": "keep"})
    out.seal()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, work = map(Path, sys.argv[1:])
    place_slabs(source, work / "slabs")
    for_slabs(Run(FOLDER / "dementia"), Run(work / "dementia"))
    names = [str(work / name) for name in ("slabs", "cohort", "dementia", "report")]
    slabs, cohort, model, report = names
    prepare = ["prepare", slabs, cohort, "--like", model]
    evaluate = ["evaluate", model, "--on", cohort, "--out", report, *TASK]
    sys.exit(main(prepare) or main(evaluate))
