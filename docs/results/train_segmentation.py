"""Train a network of the segmentation on synthetic heads, and write it into the package.

    python docs/results/train_segmentation.py LABEL_MAPS OUT --part head|box|slab [--steps N]

The one labels a whole head at 2 mm, the second hippocampus and amygdala at 1 mm in a box around
those of one side. The third labels a coronal slab of a stripped brain; its weights are written to
OUT/slab.safetensors, for ``uncus train --backbone anatomy --init-from``. LABEL_MAPS is a folder
of whole-head label maps (``*_dseg.nii.gz``) with FreeSurfer's numbers, those outside the brain as
in SynthSeg's repository. OUT keeps the state: the same command goes on where it stopped. On a GPU
if there is one; on one processor core 7,000 steps of the head take some 75 minutes, 14,000 of the
box 50, and 7,000 of the slab 50.
"""

import argparse
import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from monai.losses import DiceCELoss
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from uncus.data.files import write_json
from uncus.data.geometry.image import Image, upright
from uncus.data.mni.template import load_template
from uncus.data.segmentation import segmenter, slabs, trained
from uncus.data.segmentation.intensity import normalized
from uncus.data.segmentation.labels import BRAIN, MIRRORED
from uncus.data.segmentation.synthesis.images import (
    SyntheticBoxes,
    SyntheticHeads,
    SyntheticSlabs,
)
from uncus.data.segmentation.synthesis.label_map import LabelMap
from uncus.models.backbones.anatomy import STRUCTURES
from uncus.models.build import ModelConfig, build_model
from uncus.models.weights import save_weights

SHAPES = ((80, 96, 80),) * 8 + ((96, 112, 96), (112, 128, 112))
# Of the head's cross-entropy; their logarithms are subtracted from the scores again in use.
WEIGHTS = torch.tensor(
    [0.5, 0.5, 1, 1, 1, 1, 1, 0.8, 0.8, 0.8, 2, 2, 4, 4, 4, 4, 2, 2, 2, 2], dtype=torch.float32
)
STEPS, RATE = (
    {"head": 7000, "box": 14000, "slab": 7000},
    {"head": 1.5e-3, "box": 2e-3, "slab": 2e-3},
)
EVERY = 100  # steps between two checkpoints


class Images(Protocol):
    """An endless series of images and labels."""

    def __call__(self, index: int) -> tuple[Tensor, Tensor]: ...


class Indexed(Dataset[tuple[Tensor, Tensor]]):
    """Images ``first`` to ``last`` of the endless series."""

    def __init__(self, images: Images, first: int, last: int) -> None:
        self.images, self.first, self.last = images, first, last

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        torch.set_num_threads(1)
        return self.images(self.first + index)


class WeightedCrossEntropy(nn.Module):
    """Cross-entropy with ``WEIGHTS``, of scores [N, K, X, Y, Z] and labels [N, 1, X, Y, Z]."""

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        weights = WEIGHTS.to(scores.device)
        return nn.functional.cross_entropy(scores, labels[:, 0], weights)


def save(path: Path, state: object) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("label_maps", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", choices=(*trained.PARTS, "slab"), required=True)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    part = options.part
    steps, rate = options.steps or STEPS[part], options.rate or RATE[part]
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options.out.mkdir(parents=True, exist_ok=True)
    net = (slab_network().unet if part == "slab" else trained.untrained(part)).to(device)
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=1e-4)

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / 100)
        return warm * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    first, path = 0, options.out / "state.pt"
    if path.exists():
        state = torch.load(path, weights_only=True)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first = state["step"]
    maps = [LabelMap.load(file) for file in sorted(options.label_maps.glob("*_dseg.nii.gz"))]
    images: Images
    criterion: nn.Module
    if part == "head":
        images = SyntheticHeads(maps, segmenter.SPACING, SHAPES, options.seed)
        criterion = WeightedCrossEntropy()
    else:
        images = (SyntheticBoxes if part == "box" else SyntheticSlabs)(maps, options.seed)
        criterion = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    loader = DataLoader(Indexed(images, first, steps), batch_size=1, num_workers=1)
    total, began = 0.0, time.time()
    batches = track(loader, "Training", total=steps - first)
    for step, (image, labels) in enumerate(batches, first + 1):
        with torch.autocast(device.type, dtype=torch.bfloat16):
            scores = net(image.to(device))
        loss = criterion(scores.float(), labels.to(device)[:, None])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(net)
        total += loss.item()
        if step % EVERY == 0 or step == steps:
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
    if part == "slab":
        whole = slab_network()
        whole.unet = average.module.cpu()
        save_weights(whole, options.out / "slab.safetensors")
    else:
        write(part, average.module, steps)


def slab_network() -> Any:
    """The network whose U-Net labels a slab."""
    assert len(slabs.CLASSES) == STRUCTURES
    return build_model(ModelConfig(backbone="anatomy", groups=8))


def write(part: str, network: nn.Module, steps: int) -> None:
    """Write weights and card into the package; the other network's stay."""
    network = network.cpu().float()
    tensors = load_file(trained.WEIGHTS) if trained.WEIGHTS.exists() else {}
    tensors = {name: one for name, one in tensors.items() if not name.startswith(f"{part}.")}
    if part == "head":
        # The weighted loss made these labels likelier than they are.
        with torch.no_grad():
            network.head.bias.sub_(WEIGHTS.log())
    tensors |= {f"{part}.{name}": value.half() for name, value in network.state_dict().items()}
    save_file(dict(sorted(tensors.items())), trained.WEIGHTS)
    trained.WEIGHTS.chmod(0o644)
    card: dict[str, Any] = {
        "name": "uncus head segmentation",
        "networks": "U-Nets with Group Normalization: the head at 2 mm, 20 labels; hippocampus and "
        "amygdala at 1 mm",
        "trained_on": "synthetic heads, drawn from the label maps of 20 people in the SynthSeg "
        "repository (Billot et al. 2023, doi:10.1016/j.media.2023.102789; Apache-2.0); no scan",
        "steps": {},
        "notice": "research use only, not a medical device",
    }
    if trained.CARD.exists():
        card |= json.loads(trained.CARD.read_text())
    card["steps"][part] = steps
    card["sha256"] = hashlib.sha256(trained.WEIGHTS.read_bytes()).hexdigest()
    if part == "head":
        card |= template_places()
    write_json(trained.CARD, card)


def template_places() -> dict[str, Any]:
    """Where the network of the head sees the labels and the brain of the template, in mm."""
    template = load_template()
    network = trained.load_network("head")
    head = upright(Image(template.t1, template.affine), segmenter.SPACING)
    image = segmenter.padded(normalized(torch.from_numpy(np.nan_to_num(head.array))))
    scores = segmenter.probabilities(network, image)
    mirrored = segmenter.probabilities(network, image.flip(0)).flip(1)[list(MIRRORED)]
    labels = (scores + mirrored).argmax(0).numpy()
    centers = segmenter.label_centers(labels, head.affine, BRAIN)
    inside = np.argwhere(template.brain)
    box = np.array([inside.min(axis=0), inside.max(axis=0)]) + template.affine[:3, 3]
    return {
        "template_centers": {str(k): center.round(2).tolist() for k, center in centers.items()},
        "template_box": box.tolist(),
    }


if __name__ == "__main__":
    main()
