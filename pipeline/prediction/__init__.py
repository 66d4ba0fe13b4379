"""Predictions and explanations of single scans, and their reports."""
