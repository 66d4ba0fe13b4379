"""Synthetic brains with known atrophy."""
