"""Write docs/options.md, and draw the README's picture.

python tools/docs.py           docs/options.md, from the commands' own help texts
python tools/docs.py picture   docs/sample.png, from data/ and models/ as the demo leaves them
"""

import contextlib
import importlib
import io
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {
    "openimager": ("openimager.cli", "Download photos, boxes and credits of some categories."),
    "python -m openimager.predict": ("openimager.predict", "Classify photos with a model."),
    "python -m openimager.gallery": ("openimager.gallery", "Look at photos, crops and mistakes."),
    "python -m openimager.export": ("openimager.export.__main__", "Write COCO, YOLO, Croissant."),
    "python -m openimager.install": ("openimager.install", "Install a package."),
    "python -m openimager.registry": ("openimager.registry", "Repair a moved registry folder."),
    "python -m openimager.sample": (
        "openimager.sample",
        "Serve the sample or a folder of your own.",
    ),
}


def help_of(module: str) -> str:
    """Return the help text of a command."""
    # argparse wraps lines at the terminal's width; the page needs a fixed one.
    os.environ["COLUMNS"] = "96"
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.suppress(SystemExit):
        importlib.import_module(module).main(["--help"])
    return stream.getvalue()


def options() -> str:
    """Return docs/options.md."""
    parts = [
        "# Options",
        "The commands and their help texts. `openimager.download` takes the same options as "
        "keywords, except `--list`,\n`--dry-run`, `--gallery` and `--dask` (use `executor`). "
        "(`tools/docs.py` writes this page.)",
    ]
    for command, (module, about) in COMMANDS.items():
        parts += [f"## {command}", about, f"```text\n{help_of(module).strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def draw_picture(path: Path) -> None:
    """Draw crops on the left and the confusion matrix on the right."""
    import matplotlib.pyplot as plt
    import numpy as np
    import pandas as pd
    from PIL import Image
    from sklearn.metrics import ConfusionMatrixDisplay

    metrics = json.loads((ROOT / "models/metrics.json").read_text(encoding="utf-8"))
    crops = pd.read_csv(ROOT / "data/crops.csv")
    crops = crops[(crops["Subset"] == "test") & crops["CropPath"].notna()]
    figure = plt.figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(5, 4))
    names = metrics["categories"]
    left.suptitle("crops, drawn")
    for row, axes in zip(names, left.subplots(len(names), 5), strict=True):
        chosen = crops[crops["Category"] == row].sample(5, random_state=0)
        for axis, crop in zip(axes, chosen["CropPath"], strict=True):
            axis.imshow(Image.open(ROOT / crop))
            axis.set_axis_off()
        axes[0].set_title(row, loc="left")
    display = ConfusionMatrixDisplay(np.array(metrics["confusion"]), display_labels=names)
    axis = right.subplots()
    display.plot(ax=axis, cmap="Blues", colorbar=False)
    axis.set_title(f"{metrics['crops']} unseen crops, drawn")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)


if __name__ == "__main__":
    if sys.argv[1:] == ["picture"]:
        draw_picture(ROOT / "docs/sample.png")
    else:
        (ROOT / "docs/options.md").write_text(options(), encoding="utf-8", newline="\n")
