"""The web page: reads runs, calls ``uncus.pipeline.predict``, computes nothing of its own."""

if "." not in __name__:  # imported from a checkout by its old name
    from uncus.old_names import forward

    forward(__name__)
