"""Filled shapes on a transparent layer: everything in the sample is drawn with them.

A subject is drawn around the origin and is about 100 units large, x to the right and y down. A
drawing is text, with one shape per line or between semicolons: its kind, a colour and numbers.

    fill COLOUR X Y X Y ...                a polygon
    curve COLOUR X Y X Y ...               a smooth closed curve through the points
    mirror COLOUR X Y X Y ...              the same, its right half given from top to bottom
    oval COLOUR X Y RX RY [ANGLE]
    line COLOUR WIDTH TAPER X Y X Y ...    a smooth line, WIDTH * TAPER wide at its end

``&`` before the kind draws the shape on both sides. A colour is a name, which ``+30`` lightens and
``-30`` darkens by 30 percent. A number ``3~5`` is drawn at random from that range.
"""

import colorsys
import contextlib
import math
import re
from random import Random

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]

COLOURS = {"white": (250, 250, 246), "black": (24, 22, 24), "pink": (232, 130, 140)}
_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
_SCALE = 2
# A subject is cropped to where its mask is above 60; fainter edges cannot be seen.
_VISIBLE = [255 * (value > 60) for value in range(256)]


def shade(colour: Colour, amount: float) -> Colour:
    """Return `colour` moved towards white (amount up to 1) or towards black (down to -1)."""
    target = 255 if amount > 0 else 0
    return tuple(round(c + (target - c) * abs(amount)) for c in colour)


def vary(rng: Random, colours, spread: int = 16) -> Colour:
    """Return one of `colours`, a little lighter or darker and slightly tinted."""
    light, half = rng.randint(-spread, spread), spread // 2
    colour = rng.choice(colours)
    return tuple(min(255, max(0, c + light + rng.randint(-half, half))) for c in colour)


def hue(rng: Random, saturation: float, value: float) -> Colour:
    """Return a colour of any hue, roughly as saturated and light as given (0 to 1)."""
    s = min(1, max(0, saturation * rng.uniform(0.5, 1.5)))
    v = min(1, max(0.08, value * rng.uniform(0.75, 1.2)))
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(rng.random(), s, v))


class Pen:
    """Draws one subject, with `size` pixels to 100 units, rotated clockwise by `angle` degrees."""

    def __init__(self, rng: Random, size: float, angle=0.0, mirror=False, stretch=1.0):
        self.rng, self.colours = rng, dict(COLOURS)
        side = math.ceil(size * 2) * _SCALE
        # Colour and mask are separate: Pillow shrinks RGBA slowly, because it multiplies colour by
        # alpha and divides again. Edges blend into the grey background: a thin outline.
        self._colour = Image.new("RGB", (side, side), (84, 78, 74))
        self._mask = Image.new("L", (side, side))
        self._draw = ImageDraw.Draw(self._colour)
        self._draw_mask = ImageDraw.Draw(self._mask)
        turn = _turn(angle) * (stretch * (-1 if mirror else 1), 1)
        self._matrix = size / 100 * _SCALE * turn
        self._origin = np.array([side / 2, side / 2])

    @contextlib.contextmanager
    def at(self, x=0.0, y=0.0, scale=1.0, angle=0.0, mirror=False):
        """Draw elsewhere, at another size and angle, or mirrored, while the block runs."""
        before = self._matrix, self._origin
        self._origin = self._origin + self._matrix @ (x, y)
        self._matrix = self._matrix @ _turn(angle) * (-scale if mirror else scale, scale)
        yield
        self._matrix, self._origin = before

    def draw(self, text: str, **numbers) -> None:
        """Draw the shapes in `text`, after replacing ``{name}`` by `numbers`."""
        shapes = text.format(**numbers).replace(";", "\n").splitlines()
        for line in filter(str.strip, shapes):
            kind, colour, *rest = line.split()
            self.add(kind, colour, *(self._number(number) for number in rest))

    def add(self, kind: str, colour: str, *numbers: float) -> None:
        """Draw one shape."""
        name, percent = re.fullmatch(r"([a-z]+)([+-]\d+)?", colour).groups()
        colour = shade(self.colours[name], int(percent or 0) / 100)
        for outline in _outlines(kind.lstrip("&"), numbers):
            for side in (1, -1) if kind[0] == "&" else (1,):
                pixels = (outline * (side, 1)) @ self._matrix.T + self._origin
                pixels = pixels.ravel().tolist()
                self._draw.polygon(pixels, fill=colour)
                self._draw_mask.polygon(pixels, fill=255)

    def _number(self, text: str) -> float:
        low, between, high = text.partition("~")
        return self.rng.uniform(float(low), float(high)) if between else float(low)

    def finish(self) -> Image.Image:
        """Return the drawing in mode RGBA, cropped to its edges, lit from above, slightly rough."""
        # Two pixels of margin, because a shrunk edge reaches one further.
        box = tuple(np.add(self._mask.getbbox(), (-2, -2, 2, 2)).tolist())
        colour = self._colour.crop(box).reduce(_SCALE)
        mask = self._mask.crop(box).reduce(_SCALE)
        # Darker where the shape turns away; at a sixth of the size, as light has no sharp edges.
        soft = mask.reduce(6).filter(ImageFilter.BoxBlur(1.5))
        far = max(1, max(soft.size) // 20)
        moved = ImageChops.offset(soft, self.rng.choice((-far, far)), far)
        rough = Image.frombytes("L", (32, 32), bytes(self.rng.choices(range(115, 142), k=1024)))
        rough = rough.resize(soft.size, Image.Resampling.BICUBIC)
        light = ImageChops.add(ImageChops.subtract(soft, moved, 4, 128), rough, offset=-128)
        light = light.resize(mask.size, Image.Resampling.BILINEAR)
        colour = ImageChops.hard_light(colour, Image.merge("RGB", (light, light, light)))
        colour.putalpha(mask)
        return colour.crop(mask.point(_VISIBLE).getbbox() or (0, 0, 1, 1))


def _turn(angle: float) -> np.ndarray:
    """Return the matrix that rotates by `angle` degrees, clockwise as y points down."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.array([[cos, -sin], [sin, cos]])


def _outlines(kind: str, numbers):
    """Yield the polygons of a shape."""
    if kind == "oval":
        x, y, rx, ry, *angle = numbers
        yield _CIRCLE * (rx, ry) @ _turn(*angle or [0]).T + (x, y)
        return
    if kind != "line":
        points = np.reshape(numbers, (-1, 2)).astype(float)
        if kind == "mirror":
            points = np.concatenate([points, points[points[:, 0] != 0][::-1] * (-1, 1)])
        yield points if kind == "fill" else _smooth(points)
        return
    width, taper, *numbers = numbers
    path = _smooth(np.reshape(numbers, (-1, 2)), closed=False)
    along = np.gradient(path, axis=0)
    across = along[:, ::-1] * (-1, 1) / np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    across *= np.linspace(width, width * taper, len(path))[:, None] / 2
    yield np.concatenate([path + across, (path - across)[::-1]])
    if width > 3:
        yield _CIRCLE * width / 2 + path[0]
        yield _CIRCLE * width * taper / 2 + path[-1]


def _smooth(points, closed: bool = True, steps: int = 6) -> np.ndarray:
    """Return a Catmull-Rom curve through `points`, `steps` points for each of its pieces."""
    before, after = (points[-1:], points[:2]) if closed else (points[:1], points[-1:])
    padded = np.concatenate([before, points, after])
    a, b, c, d = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    t = (np.arange(steps) / steps)[None, :, None]
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])
