"""The models that come with the package: each a finished run in a folder of its own, here."""
