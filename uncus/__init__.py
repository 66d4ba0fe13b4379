"""Alzheimer's disease classification from 3D T1-weighted MRI at tiny batch sizes."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uncus.data.cohorts.readers import READERS as READERS
    from uncus.data.errors import BadInput as BadInput
    from uncus.models.build import BACKBONES as BACKBONES
    from uncus.models.build import ModelConfig as ModelConfig
    from uncus.models.build import build_model as build_model
    from uncus.models.fused import FusedGroupNorm as FusedGroupNorm
    from uncus.models.norms import NORMS as NORMS
    from uncus.models.swap import swap_norm as swap_norm
    from uncus.pipeline.adaptation.adapt import adapt as adapt
    from uncus.pipeline.evaluate import evaluate as evaluate
    from uncus.pipeline.predict import Prediction as Prediction
    from uncus.pipeline.predict import Predictor as Predictor
    from uncus.pipeline.saliency import SALIENCY as SALIENCY
    from uncus.pipeline.train import train as train
    from uncus.pipeline.training.optimization import Optimization as Optimization

__version__ = "0.1.0"

NOTICE = "Research use only, not a medical device."
"""The sentence that every output with a prediction contains."""

_MODULES = {
    "BACKBONES": "models.build",
    "BadInput": "data.errors",
    "FusedGroupNorm": "models.fused",
    "ModelConfig": "models.build",
    "NORMS": "models.norms",
    "Optimization": "pipeline.training.optimization",
    "Prediction": "pipeline.predict",
    "Predictor": "pipeline.predict",
    "READERS": "data.cohorts.readers",
    "SALIENCY": "pipeline.saliency",
    "adapt": "pipeline.adaptation.adapt",
    "build_model": "models.build",
    "evaluate": "pipeline.evaluate",
    "swap_norm": "models.swap",
    "train": "pipeline.train",
}
"""Public name -> its module, which is imported when the name is first used."""

__all__ = ["NOTICE", "__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
