"""Figures that more than one notebook draws. matplotlib is imported when one is drawn."""

from collections.abc import Iterable, Sequence

from openimager.crops.geometry import box_to_pixels

# Okabe and Ito's palette: told apart by people who are colour-blind, too, and in print.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
GREY = "#999999"


def colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each name, by its place among them.

    Examples
    --------
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
    """Draw counts as grouped bars, each with its number.

    Parameters
    ----------
    table : pandas.DataFrame
        A row for each group of bars, a column for each colour.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib import pyplot as plt

    each = len(table) * len(table.columns)
    fig, ax = plt.subplots(figsize=(7, 3.2))
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

    Parameters
    ----------
    pictures : sequence of PIL.Image.Image
    boxes : sequence of sequences
        For each picture its boxes: (category, (XMin, XMax, YMin, YMax)), as fractions of it.
    categories : sequence of str
        All categories, in the order of their colours.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib import patches
    from matplotlib import pyplot as plt

    rows = -(-len(pictures) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(7, 0.5 + 2.1 * rows), squeeze=False)
    tone = colours(categories)
    for ax in axes.flat:
        ax.axis("off")
    for ax, picture, found in zip(axes.flat, pictures, boxes, strict=False):
        ax.imshow(picture)
        for category, box in found:
            left, upper, right, lower = box_to_pixels(box, *picture.size)
            place = ((left, upper), right - left, lower - upper)
            # A dark line beneath keeps the colour visible on any photo.
            ax.add_patch(patches.Rectangle(*place, fill=False, edgecolor="black", linewidth=3.5))
            ax.add_patch(
                patches.Rectangle(*place, fill=False, edgecolor=tone[category], linewidth=2)
            )
    handles = [patches.Patch(color=colour, label=name) for name, colour in tone.items()]
    fig.legend(handles=handles, ncols=5, loc="outside lower center", frameon=False)
    fig.suptitle(title)
    return fig


def contact_sheet(pictures: Sequence, title: str, captions: Sequence = (), columns: int = 8):
    """Draw small pictures side by side, each with its caption if there are any.

    Parameters
    ----------
    pictures : sequence of PIL.Image.Image
    captions : sequence of str
        One for each picture, or none at all; two short lines at most.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib import pyplot as plt

    rows = max(1, -(-len(pictures) // columns))
    height = 7 / columns + (0.35 if captions else 0)
    fig, axes = plt.subplots(rows, columns, figsize=(7, 0.4 + height * rows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, picture in zip(axes.flat, pictures, strict=False):
        ax.imshow(picture)
    for ax, caption in zip(axes.flat, captions, strict=False):
        ax.set_title(caption, fontsize=8)
    fig.suptitle(title)
    return fig


def confusion(counts, title: str):
    """Draw a confusion matrix: how many crops, and what share of their true category.

    Parameters
    ----------
    counts : pandas.DataFrame
        A row for each true category, a column for each predicted one, as `metrics.confusion` has.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib import pyplot as plt

    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0).to_numpy()
    side = 2.2 + 0.8 * len(counts)
    fig, ax = plt.subplots(figsize=(side + 1, side), layout="constrained")
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(counts.to_numpy()):
        for j, count in enumerate(row):
            colour = "white" if shares[i, j] > 0.5 else "black"
            text = f"{count}\n{shares[i, j]:.0%}"
            ax.text(j, i, text, ha="center", va="center", color=colour)
    ax.set_xticks(range(len(counts)), counts.columns)
    ax.set_yticks(range(len(counts)), counts.index)
    ax.set(title=title, xlabel="Predicted", ylabel="Truth")
    fig.colorbar(image, label="Share of the true category", shrink=0.8)
    return fig
