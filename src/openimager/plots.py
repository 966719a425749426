"""Figures of the notebooks; each function that draws returns a matplotlib Figure."""

from collections.abc import Iterable, Sequence

import numpy as np

from openimager.crops.geometry import box_to_pixels

# Okabe and Ito's palette: told apart by people who are colour-blind, too, and in print.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
GREY = "#999999"


def colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each name, by its place among them.

    >>> colours(["Cat", "Dog"])
    {'Cat': '#0072B2', 'Dog': '#E69F00'}
    """
    return {name: PALETTE[k % len(PALETTE)] for k, name in enumerate(names)}


def photographic(quality: int = 75) -> None:
    """Show the figures of this notebook as JPEGs, which for photos are a tenth of a PNG's size."""
    from matplotlib import rcParams
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("jpeg", pil_kwargs={"quality": quality})
    rcParams["figure.constrained_layout.use"] = True


def bars(table, title: str, xlabel: str, ylabel: str):
    """Draw counts as bars, each with its number: a group for each row, a colour for each column."""
    each = len(table) * len(table.columns)
    fig, ax = _subplots(figsize=(7, 3.2))
    table.plot.bar(ax=ax, rot=0 if each <= 12 else 30, width=0.8, color=list(PALETTE))
    for container in ax.containers:
        ax.bar_label(container, fmt="{:,.0f}", padding=2, fontsize=9 if each <= 24 else 6)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.margins(x=0.4 / len(table), y=0.12)
    ax.spines[["top", "right"]].set_visible(False)
    ax.get_legend().remove()
    fig.legend(ncols=min(5, len(table.columns)), loc="outside lower center", frameon=False)
    return fig


def photos_with_boxes(
    pictures: Sequence, boxes: Sequence, categories: Sequence, title: str, columns: int = 3
):
    """Draw photos with their boxes, one colour for each category.

    `boxes` has a list for each PIL image: (category, (XMin, XMax, YMin, YMax)), as fractions of it.
    `categories` has all categories, in the order of their colours.
    """
    from matplotlib.patches import Patch, Rectangle

    tone = colours(categories)
    rows = -(-len(pictures) // columns)
    fig, axes = _sheet(pictures, title, rows, columns, (7, 0.5 + 2.1 * rows))
    for ax, picture, found in zip(axes, pictures, boxes, strict=False):
        for category, box in found:
            left, upper, right, lower = box_to_pixels(box, *picture.size)
            # A dark line beneath keeps the colour visible on any photo.
            for colour, width in (("black", 3.5), (tone[category], 2)):
                style = {"fill": False, "edgecolor": colour, "linewidth": width}
                ax.add_patch(Rectangle((left, upper), right - left, lower - upper, **style))
    handles = [Patch(color=colour, label=name) for name, colour in tone.items()]
    fig.legend(handles=handles, ncols=5, loc="outside lower center", frameon=False)
    return fig


def contact_sheet(pictures: Sequence, title: str, captions: Sequence = (), columns: int = 8):
    """Draw small pictures side by side, each with its caption of two short lines, if any."""
    rows = max(1, -(-len(pictures) // columns))
    height = 7 / columns + (0.35 if captions else 0)
    fig, axes = _sheet(pictures, title, rows, columns, (7, 0.4 + height * rows))
    for ax, caption in zip(axes, captions, strict=False):
        ax.set_title(caption, fontsize=8)
    return fig


def confusion(counts, title: str):
    """Draw a confusion matrix, a frame from `metrics.confusion`: counts and shares of rows."""
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0).to_numpy()
    side = 2.2 + 0.8 * len(counts)
    fig, ax = _subplots(figsize=(side + 1, side), layout="constrained")
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), share in np.ndenumerate(shares):
        text, colour = f"{counts.iloc[i, j]}\n{share:.0%}", "white" if share > 0.5 else "black"
        ax.text(j, i, text, ha="center", va="center", color=colour)
    ax.set_xticks(range(len(counts)), counts.columns)
    ax.set_yticks(range(len(counts)), counts.index)
    ax.set(title=title, xlabel="Predicted", ylabel="Truth")
    fig.colorbar(image, label="Share of the true category", shrink=0.8)
    return fig


def intervals(table, title: str, xlabel: str, highlight=(), reference: float | None = None):
    """Draw accuracies with their intervals, one row each, the first on top.

    `table` has the columns Accuracy, Low and High, and names in its index; `highlight` has the
    names to draw in colour, by default all. A dashed line is drawn at the accuracy `reference`.
    """
    fig, ax = _subplots(figsize=(7, 0.27 * len(table) + 1.2), layout="constrained")
    for y, (name, row) in enumerate(table.iterrows()):
        colour = PALETTE[0] if not highlight or name in highlight else GREY
        ax.plot([row["Low"], row["High"]], [y, y], color=colour, linewidth=3, alpha=0.5)
        ax.plot(row["Accuracy"], y, "o", color=colour)
    if reference is not None:
        ax.axvline(reference, linestyle="--", color=GREY)
    ax.set(title=title, xlabel=xlabel, xlim=(0, 1.02), yticks=range(len(table)))
    ax.set_yticklabels(table.index)
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.grid(axis="x", alpha=0.3)
    return fig


def reliability(tables: dict, title: str, lowest: float = 0.0):
    """Draw accuracy against confidence, with intervals, and the number of crops in each bin.

    `tables` has a table of `metrics.reliability` for each label in the legend; `lowest` is the
    lowest confidence that is possible: 1 / categories.
    """
    ratios = {"sharex": True, "height_ratios": (3, 1)}
    fig, (ax, below) = _subplots(2, figsize=(5.5, 5.5), layout="constrained", **ratios)
    ax.plot([0, 1], [0, 1], "--", color=GREY, label="perfectly calibrated")
    width = 0.04
    for k, (name, frame) in enumerate(tables.items()):
        # As arrays: for a single bin matplotlib warns of what it does with a Series.
        table = {column: frame[column].to_numpy() for column in frame}
        place = (table["From"] + table["To"]) / 2 + (k - (len(tables) - 1) / 2) * width
        below.bar(place, table["Crops"], width, color=PALETTE[k])
        accuracy = table["Accuracy"]
        yerr = accuracy - table["Low"], table["High"] - accuracy
        # No line between the bins: it would give a bin of 3 crops the weight of a bin of 90.
        line = {"fmt": "os"[k % 2], "color": PALETTE[k], "capsize": 3, "label": name}
        ax.errorbar(table["Confidence"], accuracy, yerr=yerr, **line)
    ax.set(ylabel="Accuracy (95 % interval)", ylim=(-0.02, 1.04), title=title)
    below.set(xlabel="Probability of the predicted category", ylabel="Crops")
    below.set_xlim(lowest - 0.05, 1.04)
    fig.legend(loc="outside lower center", ncols=3, frameon=False)
    return fig


def occlusion(pictures: Sequence, maps: Sequence, captions: Sequence, title: str):
    """Draw pictures above their `metrics.occlusion` maps: red is what the answer depends on."""
    count = len(pictures)
    fig, axes = _sheet(pictures, title, 2, count, (1.3 * count + 0.8, 3.3))
    limit = max(0.05, *(float(abs(np.asarray(found)).max()) for found in maps))
    for above, ax, picture, found, caption in zip(
        *(axes[:count], axes[count:], pictures, maps, captions), strict=True
    ):
        height, width = np.shape(picture)[:2]
        above.set_title(caption, fontsize=8)
        ax.imshow(np.asarray(picture).mean(axis=2), cmap="gray", vmin=0, vmax=255)
        image = ax.imshow(
            found, cmap="coolwarm", vmin=-limit, vmax=limit, alpha=0.6,
            extent=(0, width, height, 0), interpolation="bilinear",
        )  # fmt: skip
    fig.colorbar(image, ax=list(axes[count:]), label="Fall of the probability", shrink=0.8)
    return fig


def _subplots(*shape, **options):
    from matplotlib import pyplot

    return pyplot.subplots(*shape, **options)


def _sheet(pictures: Sequence, title: str, rows: int, columns: int, size: tuple[float, float]):
    """Return a figure of pictures, row by row, and all its axes, which are switched off."""
    fig, axes = _subplots(rows, columns, figsize=size, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, picture in zip(axes.flat, pictures, strict=False):
        ax.imshow(picture)
    fig.suptitle(title)
    return fig, axes.ravel()
