"""``python -m openimager``, and ``python src/openimager`` from a clone."""

import sys
from pathlib import Path

if not __package__:
    # Run as a folder: Python has put the folder itself on the path, where its modules could
    # shadow others of the same name; the package's parent is what belongs there.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from openimager.cli import main

if __name__ == "__main__":
    sys.exit(main())
