"""Saliency methods, each by its name."""
