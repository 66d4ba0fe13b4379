"""From a head to ICBM152: bias field, brain extraction, affine registration."""
