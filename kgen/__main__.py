"""`python -m kgen` is `kgen`."""

from __future__ import annotations

import sys

from kgen.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
