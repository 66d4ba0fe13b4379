"""Metrics with intervals, baselines, and the report of a run."""
