"""From files to volumes: cohorts, safe reading, placement on a grid. Knows no network."""

if "." not in __name__:  # imported from a checkout by its old name
    from uncus.old_names import forward

    forward(__name__)
