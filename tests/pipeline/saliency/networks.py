"""Networks and volumes for tests of saliency."""

import torch
from torch import Tensor, nn

from uncus.models.base import Classifier
from uncus.models.build import ModelConfig, build_model

SHAPE = (20, 12, 16)


def trained(norm: str = "group", classes: int = 2, backbone: str = "tiny") -> Classifier:
    """A network in float64 with gammas and betas other than 1 and 0."""
    config = ModelConfig(backbone, norm, groups=4, classes=classes, width=8)
    model = build_model(config, seed=0).double().eval()
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                noise = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
                parameter.add_(0.3 * noise)
    return model


def volume(seed: int = 0) -> Tensor:
    """Noise in float64, with background on one side."""
    x = torch.randn(
        1, 1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    x[:, :, :2] = 0
    return x


class Linear(Classifier):
    """Logits 0 and ``sum(w * x)``; its feature map is the volume."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__(1, 2, stride=1)
        self.weights = weights

    def features(self, x: Tensor) -> Tensor:
        return x

    def classify(self, feature_map: Tensor) -> Tensor:
        one = (feature_map * self.weights).sum(dim=(1, 2, 3, 4))
        return torch.stack([torch.zeros_like(one), one], dim=1)


class LesionFinder(Classifier):
    """Class 1 has a lesion, a bright patch; feature 0 detects bright patches, feature 1 dark."""

    def __init__(self, stride: int) -> None:
        super().__init__(2, 2, stride=stride)
        self.smooth = nn.Conv3d(1, 1, 3, padding=1, bias=False)
        with torch.no_grad():
            self.smooth.weight.fill_(1 / 27)
            self.head.weight.copy_(torch.tensor([[0.0, 2.0], [3.0, 0.0]]))
            self.head.bias.zero_()

    def features(self, x: Tensor) -> Tensor:
        s = self.stride
        y = self.smooth(x)[..., ::s, ::s, ::s]
        return torch.cat([(y - 0.5).relu(), (-y - 0.5).relu()], dim=1)


def planted(at: tuple[int, int, int], value: float = 3.0) -> tuple[Tensor, Tensor]:
    """A volume of noise with one bright cube of 5 voxels, and the cube's mask."""
    x = 0.2 * torch.randn(1, 1, 24, 20, 28, generator=torch.Generator().manual_seed(3))
    lesion = torch.zeros(x.shape[2:], dtype=torch.bool)
    lesion[tuple(slice(a - 2, a + 3) for a in at)] = True
    x[0, 0][lesion] += value
    return x, lesion
