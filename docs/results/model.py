"""Train the models that come with uncus on OASIS-1, and measure them.

    python docs/results/model.py SOURCE LABEL_MAPS HEADS WORK

SOURCE is the BIDS-like tree of OASIS-1 slabs, LABEL_MAPS the label maps that the segmentation of
slabs is trained on, HEADS a folder of whole heads, WORK a folder for cohort and runs. An
interrupted run is resumed.
"""

import shlex
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

from uncus.data.segmentation import slabs
from uncus.data.tables import read_table, write_table
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run

HERE = Path(__file__).parent
TWINS = {"sub-OAS10193"}
"""The same person as sub-OAS10079, as `uncus audit` found."""
SPACING = " ".join(f"{step:g}" for step in np.diag(slabs.TO_MNI)[:3])
NETWORK = (
    "--backbone anatomy --groups 8 --dropout 0 --epochs 0 --folds 5 --validation 0 --seed 10 "
    "--keep last --flip-average"
)
MEASURES = "age nwbv etiv hippocampus_left hippocampus_right"
COMMANDS = (
    f"uncus prepare WORK/slabs WORK/cohort --spacing {SPACING}",
    f"uncus train WORK/cohort WORK/anatomy --target {MEASURES} --regression --stratify cdr "
    f"{NETWORK} --init-from WORK/slab.safetensors --refit-head 0.03",
    "uncus evaluate WORK/anatomy",
    "uncus train WORK/cohort WORK/dementia --target cdr --classes CN=0 AD=0.5,1,2 "
    f'--where "age >= 60" --covariates age {NETWORK} --init-from WORK/anatomy --refit-head 0.01 '
    '--age-norms "cdr == 0 or age < 60"',
    "uncus evaluate WORK/dementia --baseline nwbv age",
    "uncus audit WORK/dementia",
)


def place_slabs(source: Path, out: Path) -> None:
    """Copy the slabs with the affine that puts them where they lie in ICBM152."""
    table = read_table(source / "participants.tsv")
    table = table[~table["participant_id"].isin(TWINS)]
    for name in table["filename"]:
        image = nib.load(source / name)
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        placed = nib.Nifti1Image(np.asarray(image.dataobj), slabs.SLAB_TO_MNI)
        nib.save(placed, target)
    write_table(out / "participants.tsv", table)


def run(source: Path, label_maps: Path, work: Path) -> None:
    """Run every command that is not done."""
    if not (work / "slab.safetensors").exists():
        script = HERE / "train_segmentation.py"
        command = [sys.executable, script, label_maps, work, "--part", "slab"]
        subprocess.run([*map(str, command)], check=True)
    if not (work / "slabs" / "participants.tsv").exists():
        place_slabs(source, work / "slabs")
    for command in COMMANDS:
        words = [word.replace("WORK", str(work)) for word in shlex.split(command)]
        print("$", shlex.join(words), flush=True)
        done = words[1] == "train" and Run(Path(words[3])).is_sealed()
        begun = words[1] == "train" and Run(Path(words[3])).is_begun()
        code = 0 if done else main([*words[1:], *["--resume"] * begun])
        if code > (words[1] == "audit"):  # 1: a fault was found
            sys.exit("the command failed")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    source, label_maps, heads, work = map(Path, sys.argv[1:])
    run(source, label_maps, work)
