"""``python -m pipeline`` is the command ``uncus``."""

import sys

from pipeline.cli import main

sys.exit(main())
