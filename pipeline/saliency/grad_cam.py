"""Grad-CAM and Grad-CAM++: which voxels of the last feature map the score rests on.

Not MONAI's GradCAM: it hooks a named layer and runs the whole network again, forward and backward.
Here the feature map of the prediction suffices, whichever engine computed it.
"""

import torch
from torch import Tensor

from uncus.models.base import Classifier
from uncus.pipeline.saliency.score import Score


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


def feature_gradient(
    model: Classifier, volume: Tensor, score: Score, feature_map: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Last feature map A and ``dS / dA``, both ``[1, C, x, y, z]``.

    The head is linear in the mean over the map's V voxels, ``z = W gain mean(A) + b``, so
    ``dS / dA_kv = gain / V sum_c dS/dz_c W_ck`` at every voxel. This needs no autograd, so the map
    may come from another engine. A model that classifies in another way is differentiated.
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
    """Interpolate a map ``[x, y, z]`` over features to voxels ``[X, Y, Z]``, linearly on each axis.

    Feature i is centred on voxel ``model.offset + i * model.stride``. The usual resizing to the
    volume's size would shift the map by up to half a stride.
    """
    for axis, size in enumerate(volume.shape[2:]):
        voxels = torch.arange(size, device=cam.device, dtype=cam.dtype)
        position = ((voxels - model.offset) / model.stride).clamp(0, cam.shape[axis] - 1)
        low = position.floor().long().clamp(max=max(0, cam.shape[axis] - 2))
        high = (low + 1).clamp(max=cam.shape[axis] - 1)
        part = (position - low).view([-1 if a == axis else 1 for a in range(3)])
        cam = cam.index_select(axis, low) * (1 - part) + cam.index_select(axis, high) * part
    return cam
