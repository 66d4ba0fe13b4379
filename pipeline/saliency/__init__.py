"""Saliency methods by name."""

from uncus.pipeline.saliency.registry import SALIENCY, Saliency
from uncus.pipeline.saliency.score import Score

__all__ = ["SALIENCY", "Saliency", "Score"]
