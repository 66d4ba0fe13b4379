"""What a user runs: joins data and models."""
