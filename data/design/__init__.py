"""Which scans, which target, which covariates, which folds."""
