"""Run ``python -m openimager.export``."""

import argparse
import sys

from openimager.errors import exit_status
from openimager.export import write_coco, write_croissant, write_yolo

_WRITERS = {"yolo": write_yolo, "coco": write_coco, "croissant": write_croissant}
_FILES = {"yolo": "yolo/data.yaml", "coco": "boxes.coco.json", "croissant": "croissant.json"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    about = "Write a data directory in the format of other tools; docs/formats.md says which."
    parser = argparse.ArgumentParser(prog="python -m openimager.export", description=about)
    add = parser.add_argument
    add("format", choices=_WRITERS)
    add("--data-dir", default="data", metavar="DIR", help="data directory (default: data)")
    options = parser.parse_args(arguments)

    def work() -> None:
        done = _WRITERS[options.format](options.data_dir)
        more = ": {:,} photos ({:,} hard links), {:,} boxes; {:,} photos without a crop left out"
        more = more.format(*done) if options.format == "yolo" else ""
        print(f"{_FILES[options.format]} was written in {options.data_dir}{more}")

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
