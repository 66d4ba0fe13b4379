"""The web page: reads runs, calls ``pipeline.predict``, computes nothing of its own."""
