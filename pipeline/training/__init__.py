"""Training the networks of a run."""
