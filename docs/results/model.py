"""Train the models that come with uncus on OASIS-1, ship them, and measure them on whole heads.

    python docs/results/model.py SOURCE LABEL_MAPS HEADS WORK

SOURCE is the BIDS-like tree of OASIS-1 slabs; LABEL_MAPS the label maps that the segmentation of
slabs is trained on; HEADS a folder with elderly-heads, ixi-heads and heads; WORK a folder for
cohort, runs and measurements. An interrupted run is resumed. The models are written into the
package, model.md and model.json beside this script.
"""

import shlex
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
from model_heads import log_odds, measure_heads
from model_map import group_map
from model_page import FOLDERS, MODELS, OLD, YOUNG, write_page
from model_steps import People, mean_probabilities
from model_steps import measure as measure_steps
from safetensors.numpy import load_file, save

from uncus.data import files
from uncus.data.prepared_cohort import PreparedCohort
from uncus.data.segmentation import slabs
from uncus.data.tables import read_table, write_table
from uncus.pipeline.builtin.catalog import FOLDER
from uncus.pipeline.cli import main
from uncus.pipeline.model_card.merging import merge
from uncus.pipeline.model_card.packing import accompany
from uncus.pipeline.runs import Run
from uncus.pipeline.trust.brain_age import BrainAge
from uncus.pipeline.trust.out_of_fold import OutOfFold

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


SOURCE_TEXT = """
## Source

OASIS-1 (Marcus et al. 2007, doi:10.1162/jocn.2007.19.9.1498): ten coronal slices of 1 mm through
hippocampi and ventricles, 1.5 T, one site; hippocampal volumes: T. Fletcher's course data on
OASIS-1. Dementia is CDR 0.5 for the most part. Not for children, and not for other diseases. What
whole heads of other studies get is in docs/results/model.md: brain age is off by more than the
interval says, and the probability of dementia is rather too high than too low. The limits of the
domain check are wider than out of fold, so that ten whole heads of IXI are inside.
"""


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


def ship(run: Run, out: Run, wider: dict[str, float], offset: float = 0.0) -> None:
    """Write the mean network of ``run`` to ``out``, its U-Net in half precision.

    Parameters
    ----------
    wider: part of the domain -> the factor by which its limit is wider than out of fold.
    offset: subtracted from the log-odds, or from the predicted age (years).
    """
    with TemporaryDirectory() as folder:
        merged = merge(run, Path(folder) / run.path.name)
        card = deepcopy(merged.card)
        shutil.rmtree(out.path, ignore_errors=True)
        shutil.copytree(merged.model_folder, out.model_folder)
    weights = out.model_folder / card["members"][0]["file"]
    tensors = load_file(weights)
    halved: dict[str, Any] = {
        k: v.astype(np.float16) if k.startswith("unet.") else v for k, v in tensors.items()
    }
    if run.target.regression:
        halved["head.bias"][0] -= offset / card["members"][0]["std"][0]
    else:
        halved["head.bias"] = halved["head.bias"] + np.float32([offset / 2, -offset / 2])
    weights.write_bytes(save(halved))
    card["members"][0]["sha256"] = files.sha256(weights)
    # Its scans lay in ICBM152, and new ones are registered to it.
    card["space"] = "mni"
    for name in ("pipeline", "results", "certificate"):
        card.pop(name, None)
    card["domain"].pop("slab", None)
    if wider:  # the rate is that of the narrow limits
        card["domain"].pop("false_alarms", None)
    limits = card["domain"]["limits"]
    card["domain"]["limits"] = {part: limits[part] * wider.get(part, 1.0) for part in limits}
    if brain_age := BrainAge.fit(OutOfFold.of(run.predictions(), run.target)):
        card["brain_age"] = brain_age.as_card()
    files.write_json(out.card_path, card)
    out.seal()
    accompany(run, out)
    describe(out)


def describe(out: Run) -> None:
    """Name the source in the card, and no folder of this machine in the report."""
    text = out.model_card_path.read_text(encoding="utf-8")
    start = "\n## Intended use\n"
    files.write_text(out.model_card_path, text.replace(start, SOURCE_TEXT + start, 1))
    report = out.report()
    report["run"]["command"] = "model.py SOURCE LABEL_MAPS HEADS WORK"
    files.write_json(out.report_path, report)


def widening(heads: Path, name: str) -> dict[str, float]:
    """The factors that a model's limits need, so that all young heads in ``heads`` are inside."""
    found = [files.read_json(path)["domain"][name]["distance"] for path in heads.glob("*.json")]
    return {part: max(1.0, 1.02 * max(one[part] for one in found)) for part in found[0]}


def offsets(work: Path) -> dict[str, float]:
    """What whole heads differ by from the slabs, by those of young people without a disease.

    Their mean log-odds of dementia, which are normed for age, less those of normal subjects out of
    fold; their mean brain age, less that expected at their ages out of fold.
    """
    found = [files.read_json(path) for path in sorted((work / "narrow-measured").rglob("*.json"))]
    table = Run(work / "dementia").predictions()
    normal = [log_odds(p) for p in table.loc[table["true"] == "CN", "p_AD"]]
    anatomy = Run(work / "anatomy")
    line = BrainAge.fit(OutOfFold.of(anatomy.predictions(), anatomy.target))
    assert line
    gaps = [line.gap(one["measures"]["age"], float(one["fields"]["age"])) for one in found]
    own = np.mean([one["log_odds"] for one in found])
    return {"dementia": float(own - np.mean(normal)), "anatomy": float(np.mean(gaps))}


def measure(models: Path, heads: Path, out: Path) -> None:
    """Measure models on each folder of heads."""
    for folder in FOLDERS:
        measure_heads(models, heads / folder, out / folder, disturb=folder == OLD)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    source, label_maps, heads, work = map(Path, sys.argv[1:])
    run(source, label_maps, work)
    for name in MODELS:
        ship(Run(work / name), Run(work / "narrow" / name), {})
    measure_heads(work / "narrow", heads / YOUNG, work / "narrow-measured", disturb=False)
    differ = offsets(work)
    for name in MODELS:
        wider = widening(work / "narrow-measured", name)
        ship(Run(work / name), Run(FOLDER / name), wider, differ[name])
    measure(FOLDER, heads, work / "measured")
    cohort = PreparedCohort.open(work / "cohort")
    evidence = group_map(Run(work / "dementia"), cohort)
    evidence.draw(HERE / "model-map.png")
    people = People(mean_probabilities(work, cohort), cohort.table)
    write_page(work, differ, evidence.shares(), people, measure_steps(people))
    print(HERE / "model.md")
