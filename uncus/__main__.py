"""``python -m uncus`` is the command ``uncus``."""

import sys

try:
    from uncus.pipeline.cli import main
except ImportError as error:  # another package called uncus
    print(f"uncus: {error}", file=sys.stderr)
    sys.exit(2)

sys.exit(main())
