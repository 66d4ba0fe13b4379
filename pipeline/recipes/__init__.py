"""How to train on a cohort of a given size."""
