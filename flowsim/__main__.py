"""``python -m flowsim``: the command line."""

import sys

from flowsim.cli import main

if __name__ == "__main__":
    sys.exit(main())
