"""``python -m CMBDetectorLib`` is the command ``cmbdetector``."""

import sys

from CMBDetectorLib.cli import main

if __name__ == "__main__":
    sys.exit(main())
