"""Train the segmentation network on synthetic heads, and write it into the package.

    python docs/results/train_segmentation.py LABEL_MAPS OUT [--steps N] [--threads N]

LABEL_MAPS is a folder of whole-head label maps (``*_dseg.nii.gz``) with FreeSurfer's numbers, those
outside the brain as in SynthSeg's repository. OUT keeps the state: the same command goes on where
it stopped. On a GPU if there is one; on one processor core 7,000 steps take some 75 minutes.
"""

import argparse
import hashlib
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from uncus.data.files import write_json
from uncus.data.geometry.image import Image, upright
from uncus.data.mni.template import load_template
from uncus.data.segmentation import segmenter
from uncus.data.segmentation.intensity import normalized
from uncus.data.segmentation.labels import BRAIN, LABELS, MIRRORED
from uncus.data.segmentation.network import SegmentationNet
from uncus.data.segmentation.synthesis import LabelMap, SyntheticHeads

SPACING = 2.0  # mm
SHAPES = ((80, 96, 80),) * 8 + ((96, 112, 96), (112, 128, 112))
# Of the cross-entropy; their logarithms are subtracted from the scores again in use.
WEIGHTS = torch.tensor(
    [0.5, 0.5, 1, 1, 1, 1, 1, 0.8, 0.8, 0.8, 2, 2, 4, 4, 4, 4, 2, 2, 2, 2], dtype=torch.float32
)
EVERY = 100  # steps between two checkpoints


class Indexed(Dataset[tuple[Tensor, Tensor]]):
    """Heads ``first`` to ``last`` of the endless series."""

    def __init__(self, heads: SyntheticHeads, first: int, last: int) -> None:
        self.heads, self.first, self.last = heads, first, last

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        torch.set_num_threads(1)
        return self.heads(self.first + index)


def save(path: Path, state: object) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("label_maps", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options.out.mkdir(parents=True, exist_ok=True)
    net = SegmentationNet(len(LABELS)).to(device)
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    optimizer = torch.optim.AdamW(net.parameters(), options.rate, weight_decay=1e-4)

    def rate(step: int) -> float:
        warm = min(1.0, (step + 1) / 100)
        return warm * 0.5 * (1 + math.cos(math.pi * min(step / options.steps, 1)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    first, path = 0, options.out / "state.pt"
    if path.exists():
        state = torch.load(path, weights_only=True)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first = state["step"]
    maps = [LabelMap.load(file) for file in sorted(options.label_maps.glob("*_dseg.nii.gz"))]
    heads = SyntheticHeads(maps, SPACING, SHAPES, options.seed)
    loader = DataLoader(Indexed(heads, first, options.steps), batch_size=1, num_workers=1)
    weights, total, began = WEIGHTS.to(device), 0.0, time.time()
    steps = track(loader, "Training", total=options.steps - first)
    for step, (image, labels) in enumerate(steps, first + 1):
        image, labels = image.to(device), labels.to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            scores = net(image)
        losses = nn.functional.cross_entropy(scores, labels, reduction="none")
        weight = weights[labels]
        loss = (losses * weight).sum() / weight.sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(net)
        total += loss.item()
        if step % EVERY == 0 or step == options.steps:
            state = {
                "net": net.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "step": step,
            }
            save(path, state)
            seconds = (time.time() - began) / (step - first)
            line = {"step": step, "loss": round(total / EVERY, 4), "seconds": round(seconds, 3)}
            with (options.out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            total = 0.0
    write(average.module, options.steps)


def write(network: nn.Module, steps: int) -> None:
    """Write weights and card into the package."""
    network = network.cpu().float().eval()
    with torch.no_grad():
        # The weighted loss made these labels likelier than they are.
        network.head.bias.sub_(WEIGHTS.log())
    halves = {name: value.half() for name, value in network.state_dict().items()}
    save_file(halves, segmenter.WEIGHTS)
    segmenter.WEIGHTS.chmod(0o644)
    network.load_state_dict({name: value.float() for name, value in halves.items()})
    template = load_template()
    head = upright(Image(template.t1, template.affine), SPACING)
    image = segmenter.padded(normalized(torch.from_numpy(np.nan_to_num(head.array))))
    scores = segmenter.probabilities(network, image)
    mirrored = segmenter.probabilities(network, image.flip(0)).flip(1)[list(MIRRORED)]
    labels = (scores + mirrored).argmax(0).numpy()
    centers = segmenter.label_centers(labels, head.affine, BRAIN)
    inside = np.argwhere(template.brain)
    box = np.array([inside.min(axis=0), inside.max(axis=0)]) + template.affine[:3, 3]
    card = {
        "name": "uncus head segmentation",
        "network": "U-Net with Group Normalization, 2 mm, 20 labels",
        "trained_on": "synthetic heads, drawn from the label maps of 20 people in the SynthSeg "
        "repository (Billot et al. 2023, doi:10.1016/j.media.2023.102789; Apache-2.0); no scan",
        "steps": steps,
        "notice": "research use only, not a medical device",
        "sha256": hashlib.sha256(segmenter.WEIGHTS.read_bytes()).hexdigest(),
        "template_centers": {str(k): center.round(2).tolist() for k, center in centers.items()},
        "template_box": box.tolist(),
    }
    write_json(segmenter.CARD, card)


if __name__ == "__main__":
    main()
