"""Where the subjects are: a room, a lawn, a table, or something out of focus.

They are drawn at half the size and enlarged: four times faster, and slightly out of focus.
"""

from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from openimager_sample.pen import hue, shade, vary

SKIES = ((120, 172, 226), (186, 200, 212), (232, 178, 140), (90, 130, 190))
GROUNDS = ((92, 140, 60), (140, 150, 70), (206, 186, 140), (226, 230, 236), (160, 120, 80))
TREES = ((60, 104, 54), (90, 130, 60), (180, 110, 50))
BRICKS = ((160, 84, 66), (190, 170, 150), (120, 120, 126), (206, 190, 160))


def background(rng: Random, kind: str, size: tuple[int, int]) -> Image.Image:
    """Draw a background: "room", "lawn", "table" or "blur"."""
    width, height = (size[0] + 1) // 2, (size[1] + 1) // 2
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    _fade(draw, (0, 0, width, height), hue(rng, 0.4, 0.6), hue(rng, 0.4, 0.6))
    for _ in range(rng.randint(6, 22)):
        r = rng.uniform(0.02, 0.18) * width
        _oval(draw, rng.uniform(0, width), rng.uniform(0, height), r, r, hue(rng, 0.5, 0.75))
    image.paste(image.filter(ImageFilter.BoxBlur(rng.uniform(3, 9))))
    if kind != "blur":
        {"room": _room, "lawn": _lawn, "table": _table}[kind](rng, draw, width, height)
    return image.resize(size, Image.Resampling.BILINEAR)


def _fade(draw, box, upper, lower) -> None:
    """Fill the box with a gradient from `upper` to `lower`."""
    left, top, right, bottom = (round(edge) for edge in box)
    for y in range(top, bottom, 2):
        share = (y - top) / max(1, bottom - top)
        colour = tuple(round(a + (b - a) * share) for a, b in zip(upper, lower, strict=True))
        draw.rectangle((left, y, right, y + 1), fill=colour)


def _oval(draw, x, y, rx, ry, colour) -> None:
    draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=colour)


def _room(rng: Random, draw, width: int, height: int) -> None:
    wall, floor = hue(rng, 0.3, 0.75), hue(rng, 0.35, 0.55)
    line = round(rng.uniform(0.5, 0.8) * height)
    pattern, step = rng.choice(("plain", "stripes", "dots", "bricks")), rng.randint(10, 28)
    wall = vary(rng, BRICKS, 18) if pattern == "bricks" else wall
    draw.rectangle((0, 0, width, line), fill=wall)
    tone = shade(wall, rng.choice((-0.14, 0.2)))
    for row, y in enumerate(range(0, line if pattern == "bricks" else 0, step // 2)):
        for x in range(-step // 2 * (row % 2), width, step):
            brick = shade(wall, rng.uniform(-0.2, 0.08))
            draw.rectangle((x, y, x + step - 2, y + step // 2 - 2), fill=brick)
    for x in range(0, width, step):
        if pattern == "stripes":
            draw.rectangle((x, 0, x + step // 2, line), fill=tone)
        for y in range(x // step % 2 * step // 2, line if pattern == "dots" else 0, step):
            _oval(draw, x, y, step / 7, step / 7, tone)
    if rng.random() < 0.5:
        x, y = rng.uniform(0, 0.7) * width, rng.uniform(0, 0.1) * height
        right, low = x + rng.uniform(0.2, 0.4) * width, y + line * rng.uniform(0.5, 0.75)
        draw.rectangle((x, y, right, low), (190, 215, 236), (240, 236, 228), width=4)
        draw.line(((x + right) / 2, y, (x + right) / 2, low), fill=(240, 236, 228), width=3)
    _fade(draw, (0, line, width, height), shade(floor, -0.2), floor)
    draw.rectangle((0, line - 4, width, line), fill=shade(wall, 0.5))
    middle = rng.uniform(0.2, 0.8) * width
    for k in np.arange(-9, 10) * width / 9:
        draw.line((middle + k, line, middle + 3 * k, height), fill=shade(floor, -0.3))
    if rng.random() < 0.5:
        x = rng.uniform(0.1, 0.9) * width
        for r in (0.45 * width, 0.32 * width, 0.19 * width):
            _oval(draw, x, (line + height) / 2, r, r / 4, hue(rng, 0.5, 0.7))


def _lawn(rng: Random, draw, width: int, height: int) -> None:
    line = round(rng.uniform(0.25, 0.6) * height)
    sky, ground = vary(rng, SKIES), vary(rng, GROUNDS, 20)
    _fade(draw, (0, 0, width, line), sky, shade(sky, 0.5))
    for _ in range(rng.randint(2, 7)):
        x, r, tree = rng.uniform(0, 1) * width, rng.uniform(0.06, 0.2) * width, vary(rng, TREES)
        draw.rectangle((x - r / 8, line - r, x + r / 8, line), fill=(96, 72, 54))
        _oval(draw, x, line - 1.6 * r, r, r, tree)
        _oval(draw, x - 0.2 * r, line - 1.9 * r, r / 2, 0.6 * r, shade(tree, 0.12))
    _fade(draw, (0, line, width, height), shade(ground, -0.2), ground)
    for _ in range(170):
        x, y = rng.uniform(0, width), rng.uniform(line, height)
        ends = (x, y, x + rng.uniform(-2, 2), y - 2 - 8 * (y - line) / height)
        draw.line(ends, fill=shade(ground, rng.uniform(-0.3, 0.25)))
    for _ in range(rng.choice((0, 0, 14, 30))):
        _oval(draw, rng.uniform(0, width), rng.uniform(line, height), 2, 2, hue(rng, 0.5, 0.95))


def _table(rng: Random, draw, width: int, height: int) -> None:
    line = round(rng.uniform(0.0, 0.55) * height)
    top = hue(rng, 0.45, 0.7) if rng.random() < 0.5 else vary(rng, [(150, 106, 70)], 40)
    _fade(draw, (0, line, width, height), shade(top, -0.15), top)
    kind, step = rng.choice(("planks", "checks", "plain", "stripes")), rng.randint(14, 34)
    tone = rng.choice((shade(top, 0.5), hue(rng, 0.5, 0.8)))
    for i, x in enumerate(range(0, width, step)):
        if kind == "stripes":
            draw.rectangle((x, line, x + step // 2, height), fill=tone)
        for y in range(line + i % 2 * step, height if kind == "checks" else 0, 2 * step):
            draw.rectangle((x, y, x + step, y + step), fill=tone)
    for y in range(line, height if kind == "planks" else 0, step):
        draw.line((0, y, width, y), fill=shade(top, -0.35))
    if rng.random() < 0.5:
        x, y = rng.uniform(0.25, 0.75) * width, rng.uniform(0.55, 0.9) * height
        r, plate = rng.uniform(0.25, 0.42) * width, hue(rng, 0.1, 0.95)
        _oval(draw, x, y, r, r * 0.43, shade(plate, -0.25))
        _oval(draw, x, y - 4, r, r * 0.42, plate)
        _oval(draw, x, y - 4, r * 0.7, r * 0.27, shade(plate, -0.08))
