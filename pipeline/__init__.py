"""What a user runs: joins data and models."""

if "." not in __name__:  # imported from a checkout by its old name
    from uncus.old_names import forward

    forward(__name__)
