"""Write into README.md what is generated: the help text; and draw its picture.

python tools/readme.py           the help text
python tools/readme.py picture   docs/sample.png, from data/ and models/ as the demo leaves them
"""

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- help begins: tools/readme.py writes this part -->\n"
END = "<!-- help ends -->"


def with_help(text: str) -> str:
    """Return the README with the help text of the command between its marks."""
    # argparse folds lines at the terminal's width; a document has one of its own.
    os.environ["COLUMNS"] = "96"
    from openimager.cli import parser

    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n```text\n{parser().format_help()}```\n\n{END}{after}"


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
        readme = ROOT / "README.md"
        readme.write_text(with_help(readme.read_text(encoding="utf-8")), encoding="utf-8")
