"""The parts of ``uncus bench``."""
