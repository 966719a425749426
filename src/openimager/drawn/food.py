"""How a hamburger and a sandwich are drawn: from the same bread and the same fillings."""

import math
from random import Random

import numpy as np

from openimager.drawn.pen import Colour, Pen, shade, vary

BREADS = ((206, 140, 70), (224, 164, 92), (188, 118, 60), (170, 104, 56), (232, 184, 120))
GREENS = ((96, 158, 52), (130, 186, 70), (74, 134, 50))
CHEESES = ((250, 190, 50), (246, 210, 96), (236, 160, 44))
REDS = ((204, 58, 44), (222, 84, 60))
MEATS = ((92, 56, 38), (112, 70, 48), (78, 48, 36), (216, 138, 130), (196, 112, 108))


def _crust(rng: Random) -> Colour:
    """Return the colour of bread, pale to dark: the same range for buns and for slices."""
    return vary(rng, shade(rng.choice(BREADS), rng.uniform(-0.3, 0.5)), 14)


def _frill(pen: Pen, rng: Random, x0, x1, y, height, colour: Colour) -> None:
    """Draw a wavy leaf between x0 and x1, hanging down from y."""
    count = rng.randint(7, 11)
    xs = np.linspace(x0, x1, count)
    lower = [
        (x, y + height * (1.0 if i % 2 else 0.35) * rng.uniform(0.7, 1.2)) for i, x in enumerate(xs)
    ]
    pen.curve([(x0, y - height * 0.4), (x1, y - height * 0.4), *reversed(lower)], colour)
    for x, low in lower[1:-1:2]:
        pen.line([(x, y), (x, low - 0.01)], 0.012, shade(colour, 0.3))


def _slab(pen: Pen, x0, x1, y0, y1, colour: Colour, sag: float = 0.0) -> None:
    """Draw a flat layer with round ends, its middle lower by `sag`."""
    radius = (y1 - y0) / 2
    mid, centre = (y0 + y1) / 2, (x0 + x1) / 2
    pen.line([(x0 + radius, mid), (centre, mid + sag), (x1 - radius, mid)], y1 - y0, colour)


def _fillings(pen: Pen, rng: Random, x0, x1, y0, y1, layers: list[str]) -> None:
    """Draw `layers` from the lowest (y1) to the highest (y0), as wide as x0 to x1."""
    step = (y1 - y0) / len(layers)
    # Something dark behind, so that no background shows through between the layers.
    pen.fill([(x0 * 0.9, y0), (x1 * 0.9, y0), (x1 * 0.9, y1), (x0 * 0.9, y1)], (96, 66, 44))
    for index, layer in enumerate(layers):
        low = y1 - index * step
        high = low - step
        left, right = x0 + rng.uniform(-0.03, 0.03), x1 + rng.uniform(-0.03, 0.03)
        if layer == "meat":
            colour = vary(rng, rng.choice(MEATS), 10)
            _slab(pen, left, right, high, low, colour)
            for _ in range(14):
                x, y = rng.uniform(left + 0.04, right - 0.04), rng.uniform(high, low)
                pen.oval(x, y, 0.018, 0.012, shade(colour, rng.choice((-0.25, 0.15))))
        elif layer == "cheese":
            colour = vary(rng, rng.choice(CHEESES), 10)
            pen.fill([(left, high), (right, high), (right, low), (left, low)], colour)
            for _ in range(rng.randint(1, 3)):
                x = rng.uniform(left + 0.08, right - 0.08)
                pen.fill(
                    [
                        (x - 0.1, low - 0.01),
                        (x + 0.1, low - 0.01),
                        (x, low + rng.uniform(0.05, 0.1)),
                    ],
                    colour,
                )
        elif layer == "lettuce":
            _frill(
                pen,
                rng,
                left - 0.02,
                right + 0.02,
                high + step * 0.4,
                step,
                vary(rng, rng.choice(GREENS)),
            )
        elif layer == "tomato":
            colour = vary(rng, rng.choice(REDS), 10)
            middle = rng.uniform(left * 0.2, right * 0.2)
            _slab(pen, left + 0.03, middle - 0.01, high, low, colour)
            _slab(pen, middle + 0.01, right - 0.03, high, low, shade(colour, -0.08))
        else:
            _slab(
                pen, left + 0.02, right - 0.02, high + step * 0.2, low - step * 0.2, (240, 230, 236)
            )


def _some_layers(rng: Random) -> list[str]:
    layers = ["meat", "cheese", "lettuce", "tomato", "onion"]
    chosen = rng.sample(layers, rng.randint(3, 5))
    return chosen if "lettuce" in chosen or rng.random() < 0.4 else [*chosen, "lettuce"]


def hamburger(pen: Pen, rng: Random) -> None:
    """Draw a hamburger: a round bun with sesame above, what is in it, a flat bun below."""
    crust = _crust(rng)
    wide = rng.uniform(0.42, 0.5)
    layers = ["meat", *rng.sample(("cheese", "lettuce", "tomato", "onion"), rng.randint(2, 4))]
    if rng.random() < 0.3:
        layers += ["meat", "cheese"]
    depth = 0.065 * len(layers) * rng.uniform(0.9, 1.15)
    dome = rng.uniform(0.24, 0.36)
    top = -depth / 2 + 0.02
    base = depth / 2 + 0.02
    low = base + rng.uniform(0.1, 0.15)
    pen.curve(
        [(-wide * 0.96, base - 0.03), (0, base - 0.03), (wide * 0.96, base - 0.03),
         (wide * 0.98, base + 0.04), (wide * 0.84, low), (0, low + 0.03), (-wide * 0.84, low),
         (-wide * 0.98, base + 0.04)], crust,
    )  # fmt: skip
    pen.line(
        [(-wide * 0.92, base - 0.02), (0, base), (wide * 0.92, base - 0.02)],
        0.03,
        shade(crust, 0.55),
    )
    _fillings(pen, rng, -wide * 0.98, wide * 0.98, top, base, layers)
    lid = shade(crust, 0.06)
    pen.push(rng.uniform(-0.02, 0.02), top, 1, rng.uniform(-5, 5))
    pen.mirrored(
        [(0, -dome), (wide * 0.5, -dome * 0.92), (wide * 0.86, -dome * 0.6), (wide, -dome * 0.16),
         (wide * 0.92, 0.03), (wide * 0.4, 0.045), (0, 0.05)], lid,
    )  # fmt: skip
    pen.curve(
        [(-wide * 0.6, -dome * 0.72), (-wide * 0.1, -dome * 0.86), (-wide * 0.15, -dome * 0.7),
         (-wide * 0.55, -dome * 0.55)], shade(lid, 0.3),
    )  # fmt: skip
    for _ in range(rng.randint(10, 26) if rng.random() < 0.85 else 0):
        angle, radius = rng.uniform(-1.3, 1.3), math.sqrt(rng.random()) * 0.88
        x, y = wide * math.sin(angle) * radius, -dome * (0.28 + 0.62 * math.cos(angle) * radius)
        pen.oval(x, y + 0.008, 0.024, 0.014, shade(lid, -0.25), rng.uniform(-60, 60))
        pen.oval(x, y, 0.022, 0.012, (250, 236, 200), rng.uniform(-60, 60))
    pen.pop()


def sandwich(pen: Pen, rng: Random) -> None:
    """Draw a sandwich of sliced bread: a cut triangle, an upright triangle, or whole slices."""
    crust = _crust(rng)
    crumb = shade(crust, rng.uniform(-0.12, 0.3))
    kind = rng.choice(("wedge", "wedge", "triangle", "slices", "toast"))
    {"wedge": _wedge, "triangle": _triangle, "slices": _slices, "toast": _toast}[kind](
        pen, rng, crust, crumb
    )


def _crumbs(pen: Pen, rng: Random, crumb: Colour, x0, x1, y0, y1, count: int = 14) -> None:
    for _ in range(count):
        pen.oval(rng.uniform(x0, x1), rng.uniform(y0, y1), 0.014, 0.01, shade(crumb, -0.12))


def _wedge(pen: Pen, rng: Random, crust: Colour, crumb: Colour) -> None:
    """Draw half a sandwich that lies flat: its cut face in front, the triangle of bread on top."""
    depth = rng.uniform(0.2, 0.3)
    tip, back = rng.uniform(-0.2, 0.25), rng.uniform(-0.46, -0.36)
    slice_ = rng.uniform(0.07, 0.1)
    top = -0.08
    layers = _some_layers(rng)
    low = top + slice_ + depth
    pen.fill([(-0.5, low), (0.5, low), (0.5, low + slice_), (-0.5, low + slice_)], crumb)
    pen.fill(
        [
            (-0.5, low + slice_ - 0.02),
            (0.5, low + slice_ - 0.02),
            (0.49, low + slice_),
            (-0.49, low + slice_),
        ],
        crust,
    )
    _fillings(pen, rng, -0.5, 0.5, top + slice_, low + 0.01, layers)
    pen.fill([(-0.5, top), (tip, back), (0.5, top), (0.5, top + 0.02), (-0.5, top + 0.02)], crust)
    pen.fill([(-0.44, top), (tip, back + 0.05), (0.44, top)], shade(crust, 0.18))
    pen.fill([(-0.5, top), (0.5, top), (0.5, top + slice_), (-0.5, top + slice_)], crumb)
    pen.fill([(-0.5, top), (0.5, top), (0.5, top + 0.022), (-0.5, top + 0.022)], crust)
    _crumbs(pen, rng, crumb, -0.46, 0.46, top + 0.035, top + slice_ - 0.01)


def _triangle(pen: Pen, rng: Random, crust: Colour, crumb: Colour) -> None:
    """Draw an upright triangle: two slices with the fillings between them."""
    shift = rng.uniform(0.12, 0.18)
    points = np.array([(-0.46, 0.42), (0.36, 0.42), (-0.05, -0.46)])
    pen.fill(points + np.array((shift, -shift * 0.4)), crust)
    pen.fill((points - (0, 0.1)) * 0.9 + (shift, 0.06 - shift * 0.4), crumb)
    for offset, colour in (
        (0.75, rng.choice(GREENS)),
        (0.5, rng.choice(CHEESES)),
        (0.32, rng.choice(MEATS)),
    ):
        leaf = points * 1.03 + np.array((shift, -shift * 0.4)) * offset
        if offset == 0.75:
            ends = zip(leaf, np.roll(leaf, -1, axis=0), strict=True)
            edge = np.concatenate([np.linspace(a, b, 6, endpoint=False) for a, b in ends])
            edge += [(rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03)) for _ in edge]
            pen.curve(edge, colour)
        else:
            pen.fill(leaf, colour)
    pen.fill(points, crust)
    pen.fill((points - (-0.05, 0.12)) * 0.87 + np.array((-0.05, 0.13)), crumb)
    _crumbs(pen, rng, crumb, -0.22, 0.12, 0.05, 0.33, 20)


def _slices(pen: Pen, rng: Random, crust: Colour, crumb: Colour) -> None:
    """Draw whole slices of a tin loaf, one leaning on the other, fillings in between."""
    loaf = [(-0.36, 0.4), (0, 0.41), (0.36, 0.4), (0.38, -0.05), (0.43, -0.22), (0.34, -0.38),
            (0.1, -0.37), (0, -0.34), (-0.1, -0.37), (-0.34, -0.38), (-0.43, -0.22),
            (-0.38, -0.05)]  # fmt: skip
    points = np.array(loaf) * 0.95
    shift = rng.uniform(0.1, 0.17)
    pen.curve(points + np.array((shift, -shift * 0.5)), crust)
    pen.curve(points * 0.9 + (shift, -shift * 0.5), crumb)
    for offset, colours in ((0.8, GREENS), (0.6, MEATS), (0.4, CHEESES), (0.25, GREENS)):
        part = points * 1.02 + (shift * offset, -shift * 0.5 * offset)
        part = part + np.array([(rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03)) for _ in part])
        pen.curve(part, vary(rng, rng.choice(colours), 10))
    pen.curve(points, crust)
    pen.curve(points * 0.9, crumb)
    _crumbs(pen, rng, crumb, -0.3, 0.3, -0.25, 0.32, 30)


def _toast(pen: Pen, rng: Random, crust: Colour, crumb: Colour) -> None:
    """Draw a stack seen from the side: flat slices, one or two storeys, often a stick."""
    storeys = rng.choice((1, 1, 2))
    thick = rng.uniform(0.085, 0.12)
    wide = rng.uniform(0.42, 0.5)
    depth = rng.uniform(0.18, 0.26) if storeys == 1 else 0.17
    y = (storeys * (thick + depth) + thick) / 2
    if rng.random() < 0.5:
        pen.line([(0, -y - 0.24), (0, 0)], 0.018, (220, 190, 130))
        pen.oval(0, -y - 0.2, 0.05, 0.042, rng.choice(((120, 140, 50), (200, 50, 40))))
    for storey in range(storeys + 1):
        if storey:
            _fillings(pen, rng, -wide, wide, y - depth, y + 0.01, _some_layers(rng))
            y -= depth
        corners = np.array([(-wide, y - thick), (wide, y - thick), (wide, y), (-wide, y)])
        pen.fill(corners, crust)
        pen.fill(corners * (0.965, 1) + ((0, 0.02), (0, 0.02), (0, -0.02), (0, -0.02)), crumb)
        _crumbs(pen, rng, crumb, -wide + 0.05, wide - 0.05, y - thick + 0.03, y - 0.03, 10)
        y -= thick
