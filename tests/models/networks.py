"""Networks for tests of export and inference."""

import torch

from uncus.models.base import Classifier
from uncus.models.build import ModelConfig, build_model


def network(norm: str, backbone: str = "tiny", seed: int = 0) -> tuple[Classifier, ModelConfig]:
    """A network with norms as if trained, in evaluation mode, and its configuration."""
    config = ModelConfig(backbone=backbone, norm=norm, width=16)
    model = build_model(config, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    for value in [*model.parameters(), *model.buffers()]:
        if value.ndim == 1 and value.is_floating_point():
            value.data.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return model, config
