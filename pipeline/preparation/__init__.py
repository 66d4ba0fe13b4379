"""The workers, the grid and the quality control page of ``uncus prepare``."""
