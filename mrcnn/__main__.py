"""`python -m mrcnn`: the same as the command `mrcnn`."""

import sys

from .app.cli import main

if __name__ == "__main__":
    sys.exit(main())
