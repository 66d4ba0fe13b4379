"""What a user runs: joins data and models."""

__version__ = "0.1.0"
