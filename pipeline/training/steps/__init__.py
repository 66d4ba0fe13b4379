"""A training step: as one function, as CUDA graphs, and the check of its loss."""
