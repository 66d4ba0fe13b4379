"""The audit of a cohort or a run: leaks, confounders, shortcuts and label errors."""
