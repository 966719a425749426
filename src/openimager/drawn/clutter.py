"""What else lies about in a scene, and may stand in front of the subject."""

import math
from random import Random

from openimager.drawn.pen import Pen, hue, shade, vary


def _ball(pen: Pen, rng: Random) -> None:
    colour = hue(rng, 0.7, 0.85)
    pen.oval(0, 0, 0.45, 0.45, colour)
    pen.curve(
        [(-0.43, -0.1), (0, -0.02), (0.43, -0.1), (0.43, 0.1), (0, 0.18), (-0.43, 0.1)],
        hue(rng, 0.3, 0.9),
    )


def _plant(pen: Pen, rng: Random) -> None:
    green = vary(rng, (70, 130, 60), 24)
    for angle in range(-70, 71, 20):
        lean = math.radians(angle + rng.uniform(-8, 8))
        tip = (0.46 * math.sin(lean), 0.14 - 0.62 * math.cos(lean))
        pen.line(
            [(0, 0.14), (tip[0] * 0.6, tip[1] * 0.55), tip],
            0.11,
            shade(green, rng.uniform(-0.2, 0.2)),
            0.1,
        )
    pen.fill([(-0.22, 0.1), (0.22, 0.1), (0.16, 0.5), (-0.16, 0.5)], hue(rng, 0.5, 0.7))


def _cup(pen: Pen, rng: Random) -> None:
    colour = hue(rng, 0.4, 0.85)
    pen.oval(0.32, 0.02, 0.16, 0.18, colour)
    pen.oval(0.32, 0.02, 0.09, 0.11, shade(colour, -0.5))
    pen.fill([(-0.34, -0.36), (0.34, -0.36), (0.26, 0.4), (-0.26, 0.4)], colour)
    pen.oval(0, -0.36, 0.34, 0.08, shade(colour, 0.3))
    pen.oval(0, -0.35, 0.29, 0.06, (88, 56, 36))


def _book(pen: Pen, rng: Random) -> None:
    y = 0.4
    for _ in range(rng.randint(1, 4)):
        thick, wide = rng.uniform(0.1, 0.18), rng.uniform(0.34, 0.5)
        pen.fill([(-wide, y - thick), (wide, y - thick), (wide, y), (-wide, y)], hue(rng, 0.5, 0.7))
        high, low = y - thick + 0.02, y - 0.02
        pages = [(wide - 0.1, high), (wide, high), (wide, low), (wide - 0.1, low)]
        pen.fill(pages, (236, 230, 214))
        y -= thick


def _bottle(pen: Pen, rng: Random) -> None:
    colour = hue(rng, 0.6, 0.6)
    pen.mirrored(
        [(0, -0.5), (0.06, -0.5), (0.07, -0.24), (0.17, -0.08), (0.17, 0.44), (0.1, 0.5), (0, 0.5)],
        colour,
    )
    pen.fill([(-0.17, 0.05), (0.17, 0.05), (0.17, 0.3), (-0.17, 0.3)], hue(rng, 0.2, 0.9))


def _cushion(pen: Pen, rng: Random) -> None:
    colour = hue(rng, 0.5, 0.75)
    pen.curve(
        [
            (-0.46, -0.36),
            (0, -0.3),
            (0.46, -0.36),
            (0.4, 0),
            (0.46, 0.36),
            (0, 0.3),
            (-0.46, 0.36),
            (-0.4, 0),
        ],
        colour,
    )
    for x in (-0.2, 0, 0.2):
        pen.line([(x, -0.28), (x, 0.28)], 0.04, shade(colour, rng.choice((-0.2, 0.3))))


# How each is drawn, and the category of its box; cushions get none.
CLUTTER = (
    (_ball, "Ball"),
    (_plant, "Houseplant"),
    (_cup, "Coffee cup"),
    (_book, "Book"),
    (_bottle, "Bottle"),
    (_cushion, None),
)
