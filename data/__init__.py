"""From files to volumes: cohorts, safe reading, placement on a grid. Knows no network."""
