"""The saliency methods: ``SALIENCY[name](model, volume, class_index) -> map``.

Every method explains the same score (`uncus.pipeline.saliency.score`) and returns a map on the
volume's own grid, higher where a voxel counts more towards the class. To add a method, write a
function and add one entry to ``SALIENCY``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from uncus.models.base import Classifier
from uncus.pipeline.saliency.grad_cam import grad_cam, grad_cam_pp
from uncus.pipeline.saliency.gradients import integrated_gradients, voxel_gradient
from uncus.pipeline.saliency.occlusion import occlusion
from uncus.pipeline.saliency.score import Score, frozen


@dataclass(frozen=True)
class Saliency:
    """An entry of ``SALIENCY``: call it as ``(model, volume, class_index)``."""

    compute: Callable[[Classifier, Tensor, Score, Tensor | None], Tensor]
    """(model, volume, score, last feature map if known) -> map."""
    summary: str
    """One line for help texts and the page."""
    gradient: bool
    """Derived from gradients of the score with respect to the voxels."""
    signed: bool
    """Negative values are evidence against the class; otherwise the map is not negative."""

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
        model: explained in evaluation mode; its own mode is restored.
        volume: ``[1, 1, X, Y, Z]``, on the model's device.
        class_index: class, or column of a regression's output.
        regression: the outputs are values, not logits.
        feature_map: the volume's last feature map ``[1, C, x, y, z]`` if already known; methods
            that need nothing else from the network's trunk do not recompute it.

        Returns
        -------
        Map ``[X, Y, Z]`` in the units of the score, detached.

        Raises
        ------
        ValueError: not a single volume, no such class, or a map with NaN.
        """
        if volume.ndim != 5 or volume.shape[:2] != (1, 1):
            raise ValueError(
                f"volume of shape {list(volume.shape)}: saliency takes one volume [1, 1, X, Y, Z]"
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
            raise ValueError("the saliency map has NaN; check the network's weights and the volume")
        return saliency


SALIENCY: dict[str, Saliency] = {
    "grad_cam": Saliency(
        grad_cam,
        "Grad-CAM: evidence for the class in the last feature map; coarse (Selvaraju 2017)",
        gradient=False,
        signed=False,
    ),
    "grad_cam_pp": Saliency(
        grad_cam_pp,
        "Grad-CAM++: the same for several separate regions; coarse (Chattopadhyay 2018)",
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
        "gradient: how strongly each voxel changes the score; noisy (Simonyan 2014)",
        gradient=True,
        signed=False,
    ),
}
