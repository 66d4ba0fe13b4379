"""Grids, resampling and foreground masks."""
