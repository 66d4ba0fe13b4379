"""Which voxels speak for an answer: ``SALIENCY[name](model, volume, class_index) -> map``.

Every method explains the same score, see :func:`score`, and returns a map on the volume's own
grid, higher where a voxel speaks more for the class. To add one: a function and one entry in
``SALIENCY``.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uncus.models.base import Classifier

BACKGROUND = 0.0
"""Value of a placed volume outside the brain, and its mean inside."""
VOXELS_AT_ONCE = 2**21
"""Voxels of all volumes that go through the network at once: some gigabytes of a ResNet's maps."""
OCCLUSIONS = 400
"""Most forward passes of one occlusion map."""
SMALLEST_BLOCK = 4
"""Voxels; smaller blocks change no network's answer measurably."""


@dataclass(frozen=True)
class Saliency:
    """An entry of ``SALIENCY``: call it as ``(model, volume, class_index)``."""

    compute: Callable[[Classifier, Tensor, "Score", Tensor | None], Tensor]
    """(model, volume, score, last feature map where it is known) -> map."""
    summary: str
    """One line for people."""
    gradient: bool
    """Built from derivatives of the score with respect to the voxels."""
    signed: bool
    """Negative values speak against the class; otherwise the map is 0 and above."""

    def __call__(
        self,
        model: Classifier,
        volume: Tensor,
        class_index: int,
        *,
        regression: bool = False,
        feature_map: Tensor | None = None,
    ) -> Tensor:
        """Explain one output of ``model`` for one volume.

        Parameters
        ----------
        model: in training or evaluation mode; explained in evaluation mode, left as it was.
        volume: ``[1, 1, D, H, W]``, on the model's device.
        class_index: class, or column of a regression's output.
        regression: the outputs are values, not logits.
        feature_map: the volume's last feature map ``[1, C, d, h, w]`` where it is known already;
            methods that need no other thing of the trunk do not compute it again.

        Returns
        -------
        Map ``[D, H, W]`` in the units of the score, detached.

        Raises
        ------
        ValueError: not one volume, no such class, or a map with NaN.
        """
        if volume.ndim != 5 or volume.shape[:2] != (1, 1):
            raise ValueError(
                f"volume of shape {list(volume.shape)}: saliency takes one volume [1, 1, D, H, W]"
            )
        if not 0 <= class_index < model.head.out_features:
            raise ValueError(
                f"class_index={class_index}: the network has {model.head.out_features} outputs, "
                "counted from 0"
            )
        with frozen(model), torch.inference_mode(False), torch.enable_grad():
            saliency = self.compute(
                model, volume.detach().clone(), Score(class_index, regression), feature_map
            ).detach()
        if not bool(torch.isfinite(saliency).all()):
            raise ValueError("the saliency map has NaN; the network's weights or the volume do too")
        return saliency


@dataclass(frozen=True)
class Score:
    """What is explained: outputs ``[N, K]`` -> score ``[N]``.

    For classes it is the log-odds ``z_c - log sum_{k != c} exp z_k`` of class c, the difference of
    the logits where there are two. A logit alone would not do: softmax ignores what all logits
    share. For a regression, or a single output, it is the output itself.
    """

    class_index: int
    regression: bool = False

    def __call__(self, outputs: Tensor) -> Tensor:
        chosen = outputs[:, self.class_index]
        if self.regression or outputs.shape[1] == 1:
            return chosen
        others = [k for k in range(outputs.shape[1]) if k != self.class_index]
        return chosen - outputs[:, others].logsumexp(dim=1)

    def gradient(self, outputs: Tensor) -> Tensor:
        """``dS / dz`` of outputs z ``[N, K]``, same shape: 1 for the class, and for the others
        minus their softmax among themselves."""
        chosen = torch.arange(outputs.shape[1], device=outputs.device) == self.class_index
        if self.regression or outputs.shape[1] == 1:
            return chosen.to(outputs).expand_as(outputs)
        shares = outputs.masked_fill(chosen, -math.inf).softmax(dim=1)
        return torch.where(chosen, torch.ones_like(shares), -shares)


def grad_cam(
    model: Classifier, volume: Tensor, score: Score, feature_map: Tensor | None = None
) -> Tensor:
    """Grad-CAM (Selvaraju 2017, arXiv 1610.02391): ``relu(sum_k a_k A_k)``.

    ``A_k`` is channel k of the last feature map, ``a_k`` the mean over the map's voxels of
    ``dS / dA_k``.
    """
    feature_map, gradient = feature_gradient(model, volume, score, feature_map)
    weights = gradient.mean(dim=(2, 3, 4), keepdim=True)
    cam = (weights * feature_map).sum(dim=1)[0].relu()
    return onto_volume(cam, model, volume)


def grad_cam_pp(
    model: Classifier, volume: Tensor, score: Score, feature_map: Tensor | None = None
) -> Tensor:
    """Grad-CAM++ (Chattopadhyay 2018, arXiv 1710.11063): ``relu(sum_k w_k A_k)``.

    ``w_k = sum_v alpha_kv relu(g_kv)`` with ``g = dS / dA`` and
    ``alpha_kv = g_kv^2 / (2 g_kv^2 + g_kv^3 sum_u A_ku)``, the paper's equation 19 for the class
    score ``exp(S)``, whose factor is common to all channels and left out. The sum is over all
    voxels u of the map; where the denominator is 0, alpha is 0.
    """
    feature_map, gradient = feature_gradient(model, volume, score, feature_map)
    total = feature_map.sum(dim=(2, 3, 4), keepdim=True)
    denominator = 2 * gradient**2 + gradient**3 * total
    alpha = torch.where(denominator != 0, gradient**2 / denominator, 0.0)
    weights = (alpha * gradient.relu()).sum(dim=(2, 3, 4), keepdim=True)
    cam = (weights * feature_map).sum(dim=1)[0].relu()
    return onto_volume(cam, model, volume)


def voxel_gradient(
    model: Classifier, volume: Tensor, score: Score, feature_map: Tensor | None = None
) -> Tensor:
    """``|dS / dx|`` of each voxel (Simonyan 2014, arXiv 1312.6034)."""
    return score_gradient(model, volume, score)[0, 0].abs()


def integrated_gradients(
    model: Classifier,
    volume: Tensor,
    score: Score,
    feature_map: Tensor | None = None,
    *,
    baseline: Tensor | None = None,
    steps: int = 128,
) -> Tensor:
    """Integrated gradients (Sundararajan 2017, arXiv 1703.01365).

    ``(x - b) * integral_0^1 grad S(b + a (x - b)) da``, whose sum is ``S(x) - S(b)``. The baseline
    b is 0: background outside the brain, the mean tissue inside.

    A network that normalizes each sample right after a convolution answers ``S(a x) = S(x)`` until
    ``a`` is so small that eps matters, 0.01 to 0.00001: equal steps in ``a`` miss all that happens.
    So the steps are spread over ``log a``, see :func:`path_rule`. From a baseline of one's own
    they are spread over ``a``.

    Parameters
    ----------
    baseline: b ``[1, 1, D, H, W]``; 0 when left out.
    steps: gradients that are taken.
    """
    start = torch.zeros_like(volume) if baseline is None else baseline.to(volume)
    positions, weights = path_rule(steps, 1e-6 if baseline is None else 1.0)
    total = torch.zeros_like(volume)
    size = batch_size(volume)
    for first in range(0, steps, size):
        a = volume.new_tensor(positions[first : first + size]).view(-1, 1, 1, 1, 1)
        w = volume.new_tensor(weights[first : first + size]).view(-1, 1, 1, 1, 1)
        along = start + a * (volume - start)
        total += (w * score_gradient(model, along, score)).sum(dim=0, keepdim=True)
    return ((volume - start) * total)[0, 0]


def occlusion(
    model: Classifier, volume: Tensor, score: Score, feature_map: Tensor | None = None
) -> Tensor:
    """Occlusion (Zeiler & Fergus 2014, arXiv 1311.2901): what the score loses.

    Cubes of the volume are set to 0, the mean of the brain, one after another; a voxel's value is
    the mean of ``S(x) - S(x without the cube)`` over the cubes that hold it. Cubes overlap by
    half, and are the smallest for which at most ``OCCLUSIONS`` hold any brain.
    """
    shape = tuple(volume.shape[2:])
    blocks = choose_blocks(volume[0, 0] != BACKGROUND, OCCLUSIONS)
    masks = (block_mask(block, shape, volume.device) for block in blocks)
    total, times = torch.zeros(shape).to(volume), torch.zeros(shape).to(volume)
    for block, drop in zip(blocks, score_drops(model, volume, score, masks), strict=True):
        total[block] += drop
        times[block] += 1
    return total / times.clamp(min=1)


def occlude_regions(
    model: Classifier,
    volume: Tensor,
    class_index: int,
    regions: Tensor,
    *,
    regression: bool = False,
) -> tuple[Tensor, dict[int, float]]:
    """Occlusion of anatomical regions instead of cubes.

    Parameters
    ----------
    regions: integer labels ``[D, H, W]`` on the volume's grid; 0 is no region.

    Returns
    -------
    Map ``[D, H, W]`` whose voxels hold their region's loss of score, and label -> that loss.

    Raises
    ------
    ValueError: regions on another grid.
    """
    if regions.shape != volume.shape[2:]:
        raise ValueError(
            f"regions of shape {list(regions.shape)} for a volume of {list(volume.shape[2:])}; "
            "resample them onto the volume's grid"
        )
    labels = [int(label) for label in np.unique(regions.cpu().numpy()) if label != 0]
    regions = regions.to(volume.device)
    masks = (regions == label for label in labels)
    with frozen(model):
        drops = score_drops(model, volume.detach(), Score(class_index, regression), masks)
        lost = dict(zip(labels, (float(drop) for drop in drops), strict=True))
    saliency = torch.zeros(regions.shape).to(volume)
    for label, drop in lost.items():
        saliency[regions == label] = drop
    return saliency, lost


SALIENCY: dict[str, Saliency] = {
    "grad_cam": Saliency(
        grad_cam,
        "Grad-CAM: where the last feature map speaks for the class; coarse (Selvaraju 2017)",
        gradient=False,
        signed=False,
    ),
    "grad_cam_pp": Saliency(
        grad_cam_pp,
        "Grad-CAM++: the same for several separate places; coarse (Chattopadhyay 2018)",
        gradient=False,
        signed=False,
    ),
    "integrated_gradients": Saliency(
        integrated_gradients,
        "integrated gradients: each voxel's share of the score; fine (Sundararajan 2017)",
        gradient=True,
        signed=True,
    ),
    "occlusion": Saliency(
        occlusion,
        "occlusion: what the score loses when a cube is masked; slow (Zeiler & Fergus 2014)",
        gradient=False,
        signed=True,
    ),
    "gradient": Saliency(
        voxel_gradient,
        "gradient: how strongly each voxel moves the score; noisy (Simonyan 2014)",
        gradient=True,
        signed=False,
    ),
}


@contextmanager
def frozen(model: Classifier) -> Iterator[None]:
    """Evaluation mode and no gradients of parameters inside; everything as it was after."""
    modes = {module: module.training for module in model.modules()}
    needs = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, need in needs.items():
            parameter.requires_grad_(need)


def batch_size(volume: Tensor) -> int:
    """Copies of the volume that go at once; their number does not change a map.

    On a CPU one for each core, at least two: more of them leave its cache, one alone is slow.
    """
    most = max(2, torch.get_num_threads()) if volume.device.type == "cpu" else 16
    return max(1, min(most, VOXELS_AT_ONCE // volume.numel()))


def score_gradient(model: Classifier, volumes: Tensor, score: Score) -> Tensor:
    """``dS / dx`` of each of ``volumes [N, 1, D, H, W]``, same shape."""
    volumes = volumes.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(score(model(volumes)).sum(), volumes)
    return gradient


def feature_gradient(
    model: Classifier, volume: Tensor, score: Score, feature_map: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Last feature map A and ``dS / dA``, both ``[1, C, d, h, w]``.

    The head is linear in the mean over the map's V voxels, ``z = W gain mean(A) + b``, so
    ``dS / dA_kv = gain / V sum_c dS/dz_c W_ck`` at every voxel: nothing needs differentiating, and
    a map that another engine computed will do. A model that classifies in another way is
    differentiated.
    """
    with torch.no_grad():
        feature_map = model.features(volume) if feature_map is None else feature_map
        if model.has_linear_head():
            by_output = score.gradient(model.classify(feature_map))
            by_channel = by_output @ model.head.weight * (model.gain / feature_map[0, 0].numel())
            return feature_map, by_channel[:, :, None, None, None].expand_as(feature_map)
    feature_map = feature_map.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(score(model.classify(feature_map)).sum(), feature_map)
    return feature_map.detach(), gradient


def onto_volume(cam: Tensor, model: Classifier, volume: Tensor) -> Tensor:
    """A map ``[d, h, w]`` over features -> ``[D, H, W]`` over voxels, linear on each axis.

    Feature i lies at voxel ``model.offset + i * model.stride``. Stretching the map to the volume's
    size instead, as is usual, would shift it by up to half a stride.
    """
    for axis, size in enumerate(volume.shape[2:]):
        place = (torch.arange(size, device=cam.device, dtype=cam.dtype) - model.offset) / (
            model.stride
        )
        place = place.clamp(0, cam.shape[axis] - 1)
        low = place.floor().long().clamp(max=max(0, cam.shape[axis] - 2))
        high = (low + 1).clamp(max=cam.shape[axis] - 1)
        part = (place - low).view([-1 if a == axis else 1 for a in range(3)])
        cam = cam.index_select(axis, low) * (1 - part) + cam.index_select(axis, high) * part
    return cam


def path_rule(steps: int, smallest: float = 1e-6) -> tuple[list[float], list[float]]:
    """Positions a in 0..1 and weights of an integral over a, dense towards 0.

    Gauss-Legendre in a below ``smallest`` (4 points), in log a above it; in a throughout where
    ``smallest`` is 1.
    """
    if steps < 8:
        raise ValueError(f"steps={steps}: integrated gradients need at least 8")
    linear = steps if smallest == 1 else 4
    near, near_weights = np.polynomial.legendre.leggauss(linear)
    far, far_weights = np.polynomial.legendre.leggauss(max(1, steps - linear))
    half = -math.log(smallest) / 2
    a = np.exp((far - 1) * half)
    positions = [*(smallest * (near + 1) / 2), *a]
    weights = [*(smallest * near_weights / 2), *(far_weights * half * a)]
    return [float(p) for p in positions[:steps]], [float(w) for w in weights[:steps]]


Block = tuple[slice, slice, slice]


def choose_blocks(brain: Tensor, most: int) -> list[Block]:
    """The smallest cubes, overlapping by half, of which at most ``most`` hold brain.

    Parameters
    ----------
    brain: bool ``[D, H, W]``.
    """
    if not bool(brain.any()):
        raise ValueError("the volume is 0 everywhere: there is no brain to occlude")
    # Brain voxels before each corner: the sum over a block is a difference of 8 of them.
    before = torch.nn.functional.pad(brain.cpu().long(), (1, 0, 1, 0, 1, 0))
    for axis in range(3):
        before = before.cumsum(axis)
    for edge in itertools.count(SMALLEST_BLOCK, 2):
        ends = [block_ends(size, edge) for size in brain.shape]
        inside = before
        for axis, (start, stop) in enumerate(ends):
            inside = inside.index_select(axis, stop) - inside.index_select(axis, start)
        chosen = inside.nonzero().tolist()
        if len(chosen) <= most:
            break
    return [
        tuple(slice(int(ends[a][0][i]), int(ends[a][1][i])) for a, i in enumerate(place))  # type: ignore[misc]
        for place in chosen
    ]


def block_ends(size: int, edge: int) -> tuple[Tensor, Tensor]:
    """First voxels, and those after the last, of blocks half an edge apart that cover an axis."""
    step = edge // 2
    start = torch.arange(0, max(1, math.ceil((size - edge) / step) * step + 1), step)
    return start, (start + edge).clamp(max=size)


def block_mask(block: Block, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """bool ``[D, H, W]``, true in the block."""
    mask = torch.zeros(shape, dtype=torch.bool, device=device)
    mask[block] = True
    return mask


@torch.no_grad()
def score_drops(
    model: Classifier, volume: Tensor, score: Score, masks: Iterator[Tensor]
) -> list[float]:
    """``S(x) - S(x with the mask set to background)`` for each mask ``[D, H, W]``, in batches."""
    whole = float(score(model(volume))[0])
    drops: list[float] = []
    while batch := list(itertools.islice(masks, batch_size(volume))):
        hidden = torch.stack(batch)[:, None]
        left = score(model(volume.masked_fill(hidden, BACKGROUND)))
        drops.extend((whole - left).tolist())
    return drops
