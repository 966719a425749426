"""Run ``python -m openimager.export``."""

import argparse
import sys

from openimager.errors import BadInput, TryAgain
from openimager.export import write_coco, write_croissant, write_yolo

_EXAMPLES = """examples:
  python -m openimager.export yolo                  data/yolo/: images, labels, data.yaml
  python -m openimager.export coco --data-dir pets  pets/boxes.coco.json
  python -m openimager.export croissant             data/croissant.json
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m openimager.export",
        description="Write a data directory in the format of other tools.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("format", choices=("yolo", "coco", "croissant"))
    parser.add_argument("--data-dir", default="data", metavar="DIR", help="(data)")
    options = parser.parse_args(arguments)
    try:
        if options.format == "yolo":
            print(write_yolo(options.data_dir))
        elif options.format == "coco":
            coco = write_coco(options.data_dir)
            print(f"{len(coco['images'])} photos and {len(coco['annotations'])} boxes written.")
        else:
            croissant = write_croissant(options.data_dir)
            names = ", ".join(part["name"] for part in croissant["recordSet"])
            print(f"croissant.json written with the record sets {names}.")
    except (BadInput, TryAgain) as error:
        print(f"openimager: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
