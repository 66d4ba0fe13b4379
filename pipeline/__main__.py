"""``python -m pipeline``, in a checkout, is the command ``uncus``."""

import sys

from uncus.pipeline.cli import main

sys.exit(main())
