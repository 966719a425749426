"""Closed curves, filled, on a layer: what everything in the sample is drawn with.

A subject is drawn around the origin and about one unit large, x to the right and y down. A `Pen`
takes those coordinates to pixels, turned, mirrored and scaled. Every number comes from the
`random.Random` that is passed in, so that a seed gives the same picture.
"""

import colorsys
import math
from random import Random

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

WHITE, BLACK, PINK = (250, 250, 246), (24, 22, 24), (232, 130, 140)

Colour = tuple[int, int, int]


def shade(colour: Colour, amount: float) -> Colour:
    """Return `colour` moved towards white (amount up to 1) or towards black (down to -1).

    Examples
    --------
    >>> shade((100, 100, 100), -0.5), shade((100, 100, 100), 1)
    ((50, 50, 50), (255, 255, 255))
    """
    target = 255 if amount > 0 else 0
    return tuple(round(c + (target - c) * abs(amount)) for c in colour)


def vary(rng: Random, colour: Colour, spread: int = 16) -> Colour:
    """Return `colour` a little lighter or darker, and with a little of another hue."""
    light, half = rng.randint(-spread, spread), spread // 2
    return tuple(min(255, max(0, c + light + rng.randint(-half, half))) for c in colour)


def hue(rng: Random, saturation: float, value: float) -> Colour:
    """Return a colour of any hue, about as saturated and light as asked for (0 to 1)."""
    s = min(1, max(0, saturation * rng.uniform(0.5, 1.5)))
    v = min(1, max(0.08, value * rng.uniform(0.75, 1.2)))
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(rng.random(), s, v))


class Pen:
    """Draws in units of the subject on a transparent layer.

    Parameters
    ----------
    size : float
        Pixels to the unit.
    angle : float
        Degrees by which the subject leans, clockwise.
    mirror : bool
        Swap left and right.
    stretch : float
        Width by which the subject is drawn, relative to its height.
    """

    SCALE = 2

    def __init__(self, size: float, angle: float = 0, mirror: bool = False, stretch: float = 1):
        side = math.ceil(size * 2) * self.SCALE
        # Colour and mask apart: Pillow multiplies the two on each resizing of RGBA, at a cost.
        # The grey is what edges blend into, a thin outline.
        self._colour = Image.new("RGB", (side, side), (84, 78, 74))
        self._mask = Image.new("L", (side, side))
        self._draw = ImageDraw.Draw(self._colour)
        self._draw_mask = ImageDraw.Draw(self._mask)
        turn = _turn(angle) * (stretch * (-1 if mirror else 1), 1)
        self._matrix = size * self.SCALE * turn
        self._origin = np.array([side / 2, side / 2])
        self._stack = []

    def push(self, dx: float, dy: float, scale: float, angle: float = 0) -> None:
        """Draw what follows smaller and elsewhere, until `pop`."""
        self._stack.append((self._matrix, self._origin))
        self._origin = self._origin + self._matrix @ (dx, dy)
        self._matrix = self._matrix @ _turn(angle) * scale

    def pop(self) -> None:
        """Undo the last `push`."""
        self._matrix, self._origin = self._stack.pop()

    def fill(self, points, colour: Colour) -> None:
        """Fill the polygon through `points`, an array of shape (n, 2)."""
        pixels = (np.asarray(points) @ self._matrix.T + self._origin).ravel().tolist()
        self._draw.polygon(pixels, fill=colour)
        self._draw_mask.polygon(pixels, fill=255)

    def curve(self, points, colour: Colour) -> None:
        """Fill the smooth closed curve through `points`."""
        self.fill(smooth(points), colour)

    def mirrored(self, points, colour: Colour) -> None:
        """Fill the smooth curve through `points`, given from top to bottom for the right half."""
        half = [(-x, y) for x, y in points if x]
        self.curve([*points, *reversed(half)], colour)

    def oval(self, x, y, rx, ry, colour: Colour, angle: float = 0) -> None:
        """Fill an ellipse around (x, y) with the radii rx and ry, leaning by `angle` degrees."""
        self.fill(_CIRCLE * (rx, ry) @ _turn(angle).T + (x, y), colour)

    def line(self, points, width: float, colour: Colour, taper: float = 1) -> None:
        """Draw a smooth open line, `width` thick at its start and `width * taper` at its end."""
        path = smooth(points, closed=False)
        along = np.empty_like(path)
        along[1:-1] = path[2:] - path[:-2]
        along[0], along[-1] = path[1] - path[0], path[-1] - path[-2]
        across = along[:, ::-1] * (-1, 1) / np.maximum(np.hypot(*along.T), 1e-9)[:, None]
        across *= np.linspace(width, width * taper, len(path))[:, None] / 2
        self.fill(np.concatenate([path + across, (path - across)[::-1]]), colour)
        if width > 0.03:
            self.oval(*path[0], width / 2, width / 2, colour)
            self.oval(*path[-1], width * taper / 2, width * taper / 2, colour)

    def finish(self, rng: Random, texture: float = 13) -> Image.Image:
        """Return what was drawn: mode RGBA, cut to its edges, lit from above, its surface rough.

        Parameters
        ----------
        rng : random.Random
        texture : float
            How much the surface's lightness varies, of 255.
        """
        box = self._mask.getbbox()
        # Two pixels of margin, because a shrunk edge reaches one further.
        box = tuple(edge + margin for edge, margin in zip(box, (-2, -2, 2, 2), strict=True))
        colour = self._colour.crop(box).reduce(self.SCALE)
        mask = self._mask.crop(box).reduce(self.SCALE)
        light = _light(rng, mask, texture)
        colour = ImageChops.hard_light(colour, Image.merge("RGB", (light, light, light)))
        colour.putalpha(mask)
        return colour.crop(mask.point(_VISIBLE).getbbox() or (0, 0, 1, 1))


# Edges fainter than this do not count as part of a subject.
_VISIBLE = [255 * (value > 60) for value in range(256)]

_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


def _turn(angle: float) -> np.ndarray:
    """Return the matrix that turns by `angle` degrees, clockwise as y points down."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.array([[cos, -sin], [sin, cos]])


def smooth(points, closed: bool = True, steps: int = 6) -> np.ndarray:
    """Return a Catmull-Rom curve through `points`, `steps` points for each of its pieces.

    Examples
    --------
    >>> smooth([(0, 0), (1, 0), (1, 1), (0, 1)]).shape
    (24, 2)
    """
    points = np.asarray(points, dtype=float)
    if closed:
        padded = np.concatenate([points[-1:], points, points[:2]])
    else:
        padded = np.concatenate([points[:1], points, points[-1:]])
    a, b, c, d = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    t = (np.arange(steps) / steps)[None, :, None]
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


def _light(rng: Random, mask: Image.Image, texture: float) -> Image.Image:
    """Return how light each pixel is, 128 for unchanged: darker where the shape turns away."""
    # Worked out on a sixth of the size: light has no sharp edges.
    soft = mask.reduce(6).filter(ImageFilter.BoxBlur(1.5))
    size = soft.size
    far = max(1, max(size) // 20)
    moved = ImageChops.offset(soft, rng.choice((-far, far)), far)
    relief = np.asarray(soft, dtype=float) - np.asarray(moved, dtype=float)
    rough = Image.frombytes("L", (32, 32), rng.randbytes(1024)).resize(
        size, Image.Resampling.BICUBIC
    )
    light = 128 + relief * 0.24 + (np.asarray(rough, dtype=float) - 128) * (texture / 128)
    light = Image.fromarray(np.clip(light, 0, 255).astype(np.uint8))
    return light.resize(mask.size, Image.Resampling.BILINEAR)
