"""Grids, resampling, and where the head lies on them."""
