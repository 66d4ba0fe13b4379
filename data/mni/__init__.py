"""Registration to ICBM152: bias field, brain extraction, affine transform."""
