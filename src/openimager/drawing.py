"""How a cat, a dog, a hamburger and a sandwich are drawn: closed curves, filled, on a layer.

Each subject is drawn around the origin and about one unit large, x to the right and y down. A
`Pen` takes those coordinates to pixels, turned, mirrored and scaled. Every number comes from the
`random.Random` that is passed in, so that a seed gives the same picture.
"""

import math
from random import Random

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

# Cats and dogs share their coats, buns and slices their crusts: colour must not tell them apart.
COATS = (
    (46, 42, 44), (92, 92, 100), (150, 148, 150), (214, 208, 200), (240, 236, 228),
    (206, 140, 74), (226, 178, 116), (150, 98, 58), (96, 64, 44), (184, 152, 116),
)  # fmt: skip
BREADS = ((206, 140, 70), (224, 164, 92), (188, 118, 60), (170, 104, 56), (232, 184, 120))
GREENS = ((96, 158, 52), (130, 186, 70), (74, 134, 50))
CHEESES = ((250, 190, 50), (246, 210, 96), (236, 160, 44))
REDS = ((204, 58, 44), (222, 84, 60))
MEATS = ((92, 56, 38), (112, 70, 48), (78, 48, 36), (216, 138, 130), (196, 112, 108))
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
    light = rng.randint(-spread, spread)
    return tuple(
        min(255, max(0, c + light + rng.randint(-spread // 2, spread // 2))) for c in colour
    )


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
        side = math.ceil(size * 1.6)
        self.layer = Image.new("RGBA", (side * self.SCALE, side * self.SCALE))
        self.draw = ImageDraw.Draw(self.layer)
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        x = stretch * (-1 if mirror else 1)
        self.unit = size * self.SCALE
        self._matrix = self.unit * np.array([[cos * x, -sin], [sin * x, cos]])
        self._origin = side * self.SCALE / 2
        self._stack = []

    def push(self, dx: float, dy: float, scale: float, angle: float = 0) -> None:
        """Draw what follows smaller and elsewhere, until `pop`."""
        self._stack.append((self._matrix, self._origin))
        self._origin = self._origin + self._matrix @ (dx, dy)
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        self._matrix = self._matrix @ np.array([[cos, -sin], [sin, cos]]) * scale

    def pop(self) -> None:
        """Undo the last `push`."""
        self._matrix, self._origin = self._stack.pop()

    def fill(self, points, colour: Colour) -> None:
        """Fill the polygon through `points`, an array of shape (n, 2)."""
        pixels = np.asarray(points) @ self._matrix.T + self._origin
        self.draw.polygon([tuple(point) for point in pixels.tolist()], fill=(*colour, 255))

    def curve(self, points, colour: Colour) -> None:
        """Fill the smooth closed curve through `points`."""
        self.fill(smooth(points), colour)

    def mirrored(self, points, colour: Colour) -> None:
        """Fill the smooth curve through `points`, given from top to bottom for the right half."""
        half = [(-x, y) for x, y in points if x]
        self.curve([*points, *reversed(half)], colour)

    def oval(self, x, y, rx, ry, colour: Colour, angle: float = 0) -> None:
        """Fill an ellipse around (x, y) with the radii rx and ry, leaning by `angle` degrees."""
        self.fill(_CIRCLE * (rx, ry) @ _turn(angle) + (x, y), colour)

    def line(self, points, width: float, colour: Colour, taper: float = 1) -> None:
        """Draw a smooth open line, `width` thick at its start and `width * taper` at its end."""
        path = smooth(points, closed=False)
        along = np.gradient(path, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], axis=1)
        across /= np.maximum(np.hypot(*across.T), 1e-9)[:, None]
        half = np.linspace(width, width * taper, len(path))[:, None] / 2
        self.fill(np.concatenate([path + across * half, (path - across * half)[::-1]]), colour)
        for end, radius in ((path[0], width / 2), (path[-1], width * taper / 2)):
            self.oval(*end, radius, radius, colour)

    def finish(self, rng: Random, texture: float = 0.1) -> Image.Image:
        """Return the layer at its final size, with light from above and a rough surface."""
        layer = self.layer.reduce(self.SCALE)
        return _light(layer, rng, texture)


def smooth(points, closed: bool = True, steps: int = 6) -> np.ndarray:
    """Return a Catmull-Rom curve through `points`, `steps` points for each of its pieces.

    Examples
    --------
    >>> smooth([(0, 0), (1, 0), (1, 1), (0, 1)]).shape
    (24, 2)
    """
    points = np.asarray(points, dtype=float)
    if closed:
        p0, p1, p2, p3 = (np.roll(points, shift, axis=0) for shift in (1, 0, -1, -2))
    else:
        padded = np.concatenate([points[:1], points, points[-1:]])
        p0, p1, p2, p3 = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = np.arange(steps)[None, :, None] / steps
    a, b, c, d = (p[:, None, :] for p in (p0, p1, p2, p3))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


_CIRCLE = np.stack(
    [np.cos(np.linspace(0, 2 * np.pi, 28, False)), np.sin(np.linspace(0, 2 * np.pi, 28, False))], 1
)


def _turn(angle: float) -> np.ndarray:
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.array([[cos, sin], [-sin, cos]])


def _light(layer: Image.Image, rng: Random, texture: float) -> Image.Image:
    """Make the flat shapes look round: rims away from the light are darker, the surface is rough."""
    width, height = layer.size
    alpha = layer.getchannel("A")
    small = alpha.resize((max(1, width // 8), max(1, height // 8)), Image.Resampling.BOX)
    soft = small.filter(ImageFilter.GaussianBlur(max(1, width / 100)))
    dx, dy = rng.choice((-1, 1)) * width // 130, max(1, width // 110)
    relief = ImageChops.subtract(ImageChops.offset(soft, dx, dy), soft, scale=1.2, offset=128)
    rough = Image.frombytes("L", (64, 64), rng.randbytes(4096)).filter(ImageFilter.BoxBlur(1))
    rough = rough.resize((max(1, width // 3), max(1, height // 3)), Image.Resampling.BILINEAR)
    grain = np.asarray(rough.resize(layer.size, Image.Resampling.BILINEAR), dtype=np.float32)
    bump = np.asarray(relief.resize(layer.size, Image.Resampling.BILINEAR), dtype=np.float32)
    gain = 1 + (128 - bump) / 210 + (grain - 128) * (texture / 64)
    pixels = np.asarray(layer).copy()
    pixels[..., :3] = np.clip(pixels[..., :3] * gain[..., None], 0, 255).astype(np.uint8)
    return Image.fromarray(pixels)


# ---------------------------------------------------------------------------------------- animals


class Coat:
    """The colours of one animal: its fur, belly, marks and what it wears."""

    def __init__(self, rng: Random):
        self.fur = vary(rng, rng.choice(COATS))
        self.dark = shade(self.fur, -0.28)
        self.mark = rng.choice((self.dark, vary(rng, rng.choice(COATS))))
        self.belly = rng.choice((self.fur, shade(self.fur, 0.35), vary(rng, (238, 232, 224))))
        self.line = shade(self.fur, -0.6) if sum(self.fur) > 240 else shade(self.fur, 0.35)
        self.collar = vary(
            rng, rng.choice(((190, 40, 50), (40, 90, 170), (40, 130, 80), (230, 180, 40)))
        )
        self.wears = rng.random() < 0.35


def cat(pen: Pen, rng: Random) -> None:
    """Draw a cat: pointed ears, slit pupils, whiskers, a thin tail that stands up."""
    coat = Coat(rng)
    tabby = rng.random() < 0.5
    pose = rng.choice(("face", "sits", "sits", "stands", "stands", "lies"))
    if pose == "face":
        pen.mirrored([(0, 0.2), (0.34, 0.28), (0.52, 0.62), (0, 0.66)], coat.fur)
        pen.push(0, -0.02, 0.92, rng.uniform(-12, 12))
        _cat_face(pen, rng, coat, tabby)
        pen.pop()
    elif pose == "sits":
        tail = rng.choice((-1, 1))
        sway = rng.uniform(-0.08, 0.08)
        pen.line(
            [(0.16 * tail, 0.44), (0.42 * tail, 0.4), (0.46 * tail, 0.12), (0.38 * tail + sway, -0.12)],
            0.085, coat.dark, 0.7,
        )  # fmt: skip
        pen.mirrored(
            [(0, -0.2), (0.15, -0.12), (0.24, 0.16), (0.29, 0.4), (0.17, 0.53), (0, 0.53)], coat.fur
        )
        pen.oval(0, 0.12, 0.12, 0.26, coat.belly)
        if tabby:
            for y in (0.05, 0.16, 0.27):
                for side in (-1, 1):
                    pen.line([(0.25 * side, y), (0.15 * side, y + 0.04)], 0.035, coat.dark, 0.3)
        for side in (-1, 1):
            pen.line([(0.075 * side, 0.1), (0.085 * side, 0.48)], 0.1, coat.fur)
            pen.oval(0.09 * side, 0.51, 0.075, 0.045, coat.belly)
            pen.line([(0.165 * side, 0.3), (0.15 * side, 0.46)], 0.012, coat.dark)
        _collar(pen, coat, 0, -0.13, 0.13)
        pen.push(rng.uniform(-0.04, 0.04), -0.3, 0.5, rng.uniform(-14, 14))
        _cat_face(pen, rng, coat, tabby)
        pen.pop()
    elif pose == "stands":
        curl = rng.uniform(-0.1, 0.14)
        pen.line(
            [(0.34, 0.0), (0.45, -0.14), (0.44, -0.36), (0.44 + curl, -0.52)], 0.075, coat.dark, 0.7
        )
        step = rng.uniform(-0.06, 0.06)
        for x, colour in (
            (-0.2, coat.dark),
            (0.24, coat.dark),
            (-0.28, coat.fur),
            (0.33, coat.fur),
        ):
            shift = step if colour is coat.fur else -step
            pen.line([(x, 0.08), (x + shift / 2, 0.26), (x + shift, 0.43)], 0.105, colour, 0.6)
            pen.oval(
                x + shift - 0.025, 0.44, 0.055, 0.032, coat.belly if colour is coat.fur else colour
            )
        back = rng.uniform(-0.2, -0.12)
        pen.curve(
            [(-0.38, -0.06), (-0.2, -0.12), (0.08, back), (0.32, -0.12), (0.41, 0.04), (0.34, 0.18),
             (0.1, 0.15), (-0.14, 0.19), (-0.34, 0.14)], coat.fur,
        )  # fmt: skip
        pen.oval(-0.05, 0.13, 0.22, 0.045, coat.belly)
        if tabby:
            for x in (-0.1, 0.0, 0.1, 0.2, 0.29):
                pen.line([(x, back + 0.06), (x + 0.02, 0.06)], 0.035, coat.dark, 0.3)
        pen.push(-0.37, rng.uniform(-0.24, -0.14), 0.42, rng.uniform(-12, 12))
        _cat_face(pen, rng, coat, tabby)
        pen.pop()
    else:
        pen.line([(0.42, 0.28), (0.52, 0.36), (0.3, 0.42), (0.0, 0.4)], 0.085, coat.dark, 0.7)
        pen.curve(
            [(-0.44, 0.24), (-0.36, 0.0), (-0.05, -0.12), (0.28, -0.1), (0.48, 0.12), (0.46, 0.34),
             (0.1, 0.4), (-0.36, 0.38)], coat.fur,
        )  # fmt: skip
        if tabby:
            for x in (0.02, 0.12, 0.22, 0.32):
                pen.line([(x, -0.09), (x + 0.05, 0.12)], 0.04, coat.dark, 0.3)
        pen.line([(0.5, 0.3), (0.4, 0.39), (0.2, 0.41), (0.02, 0.39)], 0.08, coat.dark, 0.8)
        for x in (-0.36, -0.2):
            pen.oval(x, 0.38, 0.085, 0.045, coat.belly)
        pen.push(-0.27, -0.04, 0.54, rng.uniform(-14, 14))
        _cat_face(pen, rng, coat, tabby)
        pen.pop()


def _cat_face(pen: Pen, rng: Random, coat: Coat, tabby: bool) -> None:
    """Draw a cat's head from the front, about one unit wide."""
    tip = rng.uniform(-0.66, -0.56)
    for side in (-1, 1):
        pen.fill([(0.46 * side, 0.0), (0.44 * side, tip), (0.05 * side, -0.3)], coat.fur)
        pen.fill(
            [(0.39 * side, -0.16), (0.395 * side, tip + 0.12), (0.17 * side, -0.3)],
            shade(PINK, rng.uniform(-0.1, 0.2)),
        )
    pen.mirrored(
        [(0, -0.36), (0.28, -0.32), (0.46, -0.06), (0.5, 0.14), (0.34, 0.33), (0.13, 0.42), (0, 0.43)],
        coat.fur,
    )  # fmt: skip
    if tabby:
        for x in (-0.12, 0, 0.12):
            pen.line([(x * 1.2, -0.35), (x * 0.8, -0.17)], 0.05, coat.dark, 0.4)
        for side in (-1, 1):
            for y in (0.06, 0.17):
                pen.line([(0.47 * side, y), (0.33 * side, y + 0.03)], 0.04, coat.dark, 0.3)
    for side in (-1, 1):
        pen.oval(0.085 * side, 0.22, 0.13, 0.1, coat.belly)
    pen.oval(0, 0.31, 0.1, 0.08, coat.belly)
    iris = vary(rng, rng.choice(((150, 190, 70), (214, 170, 50), (110, 160, 200), (190, 130, 50))))
    open_ = rng.uniform(0.7, 1.1)
    for side in (-1, 1):
        pen.oval(0.21 * side, -0.03, 0.125, 0.1 * open_, BLACK, -12 * side)
        pen.oval(0.21 * side, -0.03, 0.108, 0.083 * open_, iris, -12 * side)
        pen.oval(0.21 * side, -0.03, 0.028, 0.08 * open_, BLACK)
        pen.oval(0.21 * side + 0.03, -0.06, 0.022, 0.022, WHITE)
    pen.fill([(-0.055, 0.115), (0.055, 0.115), (0, 0.175)], shade(PINK, rng.uniform(-0.35, 0)))
    mouth = shade(coat.belly, -0.55)
    pen.line([(0, 0.17), (0, 0.225)], 0.016, mouth)
    for side in (-1, 1):
        pen.line([(0, 0.225), (0.06 * side, 0.265), (0.13 * side, 0.24)], 0.018, mouth)
        lift = rng.uniform(-0.04, 0.04)
        for y in (0.12, 0.21, 0.3):
            pen.line(
                [(0.13 * side, 0.2 + (y - 0.21) / 3), (0.64 * side, y + lift)],
                0.015,
                coat.line,
                0.5,
            )


def dog(pen: Pen, rng: Random) -> None:
    """Draw a dog: hanging ears, a long muzzle with a big nose, often a tongue, a sturdy body."""
    coat = Coat(rng)
    patched = rng.random() < 0.4
    pose = rng.choice(("face", "sits", "sits", "stands", "stands", "lies"))
    if pose == "face":
        pen.mirrored([(0, 0.2), (0.26, 0.34), (0.44, 0.64), (0, 0.68)], coat.fur)
        pen.push(0, -0.06, 0.96, rng.uniform(-12, 12))
        _dog_face(pen, rng, coat)
        pen.pop()
    elif pose == "sits":
        tail = rng.choice((-1, 1))
        pen.line([(0.16 * tail, 0.44), (0.36 * tail, 0.42), (0.45 * tail, rng.uniform(0.2, 0.36))],
                 0.1, coat.dark, 0.5)  # fmt: skip
        pen.mirrored(
            [(0, -0.2), (0.2, -0.14), (0.26, 0.1), (0.31, 0.38), (0.22, 0.53), (0, 0.52)], coat.fur
        )
        pen.oval(0, 0.06, 0.14, 0.22, coat.belly)
        if patched:
            pen.oval(0.16, 0.1, 0.11, 0.15, coat.mark, 20)
        for side in (-1, 1):
            pen.line([(0.1 * side, 0.04), (0.1 * side, 0.48)], 0.13, coat.fur)
            pen.oval(0.115 * side, 0.51, 0.095, 0.05, coat.belly)
            pen.line([(0.185 * side, 0.28), (0.18 * side, 0.45)], 0.012, coat.dark)
        _collar(pen, coat, 0, -0.12, 0.15)
        pen.push(rng.uniform(-0.04, 0.04), -0.3, 0.52, rng.uniform(-14, 14))
        _dog_face(pen, rng, coat)
        pen.pop()
    elif pose == "stands":
        up = rng.uniform(-0.3, -0.02)
        pen.line([(0.36, -0.08), (0.48, -0.14), (0.54, up)], 0.1, coat.fur, 0.5)
        step = rng.uniform(-0.06, 0.06)
        for x, colour in (
            (-0.18, coat.dark),
            (0.24, coat.dark),
            (-0.26, coat.fur),
            (0.33, coat.fur),
        ):
            shift = step if colour is coat.fur else -step
            pen.line([(x, 0.04), (x + shift / 2, 0.26), (x + shift, 0.46)], 0.125, colour, 0.65)
            pen.oval(
                x + shift - 0.03, 0.475, 0.07, 0.036, coat.belly if colour is coat.fur else colour
            )
        pen.curve(
            [(-0.42, -0.1), (-0.2, -0.17), (0.1, -0.15), (0.34, -0.15), (0.42, 0.0), (0.34, 0.13),
             (0.12, 0.1), (-0.12, 0.2), (-0.36, 0.16)], coat.fur,
        )  # fmt: skip
        pen.oval(-0.1, 0.14, 0.2, 0.05, coat.belly)
        if patched:
            pen.oval(0.1, -0.04, 0.15, 0.1, coat.mark, 8)
        if rng.random() < 0.6:
            pen.push(-0.42, rng.uniform(-0.26, -0.2), 0.5, rng.uniform(-10, 14))
            _dog_profile(pen, rng, coat)
        else:
            pen.push(-0.37, rng.uniform(-0.26, -0.18), 0.44, rng.uniform(-12, 12))
            _dog_face(pen, rng, coat)
        pen.pop()
    else:
        pen.line([(0.4, 0.24), (0.54, 0.3), (0.58, 0.38)], 0.09, coat.dark, 0.5)
        pen.curve(
            [(-0.42, 0.26), (-0.32, -0.02), (0.0, -0.08), (0.3, -0.04), (0.48, 0.16), (0.46, 0.36),
             (0.1, 0.4), (-0.36, 0.4)], coat.fur,
        )  # fmt: skip
        if patched:
            pen.oval(0.18, 0.06, 0.15, 0.11, coat.mark, 10)
        pen.oval(0.34, 0.3, 0.15, 0.12, coat.dark)
        pen.oval(0.34, 0.29, 0.14, 0.11, coat.fur)
        for x in (-0.44, -0.16):
            pen.line([(x + 0.08, 0.3), (x - 0.04, 0.4)], 0.12, coat.fur)
            pen.oval(x - 0.05, 0.41, 0.09, 0.05, coat.belly)
        pen.push(-0.27, -0.02, 0.56, rng.uniform(-14, 14))
        _dog_face(pen, rng, coat)
        pen.pop()


def _dog_ear(pen: Pen, rng: Random, side: int, coat: Coat, kind: str) -> None:
    colour = coat.mark if coat.mark != coat.fur else coat.dark
    if kind == "pricked":
        pen.curve(
            [(0.3 * side, -0.12), (0.36 * side, -0.56), (0.22 * side, -0.5), (0.06 * side, -0.36)],
            colour,
        )
        return
    length = {"short": 0.0, "hanging": 0.16, "long": 0.34}[kind] + rng.uniform(-0.04, 0.04)
    pen.curve(
        [(0.16 * side, -0.4), (0.36 * side, -0.4), (0.5 * side, -0.16), (0.54 * side, 0.06 + length),
         (0.43 * side, 0.16 + length), (0.33 * side, 0.02 + length / 2), (0.26 * side, -0.2)], colour,
    )  # fmt: skip


def _dog_face(pen: Pen, rng: Random, coat: Coat) -> None:
    """Draw a dog's head from the front, about one unit high."""
    kind = rng.choice(("short", "hanging", "hanging", "long", "long", "pricked"))
    if kind == "pricked":
        for side in (-1, 1):
            _dog_ear(pen, rng, side, coat, kind)
    pen.mirrored(
        [(0, -0.42), (0.22, -0.39), (0.35, -0.2), (0.34, 0.02), (0.25, 0.2), (0.22, 0.36), (0.12, 0.46),
         (0, 0.48)], coat.fur,
    )  # fmt: skip
    if rng.random() < 0.4:
        pen.curve([(-0.05, -0.42), (0.05, -0.42), (0.07, 0.0), (-0.07, 0.0)], coat.belly)
    if rng.random() < 0.3:
        pen.oval(0.17, -0.1, 0.13, 0.16, coat.mark)
    width = rng.uniform(0.19, 0.25)
    if rng.random() < 0.6:
        drop = rng.uniform(0.5, 0.66)
        pen.mirrored(
            [(0, 0.3), (0.085, 0.34), (0.1, drop - 0.06), (0.05, drop), (0, drop)], (220, 96, 110)
        )
        pen.line([(0, 0.36), (0, drop - 0.06)], 0.014, (180, 66, 84))
    for side in (-1, 1):
        pen.oval(width * 0.5 * side, 0.24, width * 0.62, 0.16, coat.belly)
    pen.oval(0, 0.14, width * 0.8, 0.17, coat.belly)
    mouth = shade(coat.belly, -0.6)
    pen.line([(0, 0.18), (0, 0.32)], 0.02, mouth)
    for side in (-1, 1):
        pen.line([(0, 0.32), (0.1 * side, 0.37), (0.2 * side, 0.31)], 0.024, mouth)
        for x, y in ((0.09, 0.22), (0.14, 0.26), (0.1, 0.29)):
            pen.oval(x * side, y, 0.009, 0.009, mouth)
    pen.mirrored([(0, 0.03), (0.1, 0.05), (0.11, 0.11), (0.05, 0.18), (0, 0.19)], BLACK)
    pen.oval(-0.03, 0.07, 0.035, 0.018, (120, 120, 124))
    for side in (-1, 1):
        pen.oval(0.17 * side, -0.1, 0.072, 0.075, shade(coat.fur, -0.5))
        pen.oval(0.17 * side, -0.1, 0.06, 0.062, (70, 44, 28))
        pen.oval(0.17 * side, -0.1, 0.036, 0.038, BLACK)
        pen.oval(0.17 * side + 0.02, -0.12, 0.016, 0.016, WHITE)
        pen.line([(0.11 * side, -0.22), (0.2 * side, -0.23)], 0.022, coat.dark)
    if kind != "pricked":
        for side in (-1, 1):
            _dog_ear(pen, rng, side, coat, kind)


def _dog_profile(pen: Pen, rng: Random, coat: Coat) -> None:
    """Draw a dog's head from the side, looking to the left, the muzzle about half its length."""
    long = rng.uniform(0.5, 0.64)
    if rng.random() < 0.5:
        pen.curve([(-0.3, 0.16), (-0.36, 0.34), (-0.28, 0.4), (-0.2, 0.2)], (220, 96, 110))
    pen.curve(
        [(0.36, 0.24), (0.34, -0.16), (0.14, -0.36), (-0.1, -0.3), (-0.22, -0.08), (-long, 0.0),
         (-long - 0.02, 0.13), (-0.34, 0.2), (-0.06, 0.26), (0.12, 0.42)], coat.fur,
    )  # fmt: skip
    pen.curve([(-0.2, 0.02), (-long, 0.03), (-long, 0.12), (-0.3, 0.17), (-0.12, 0.16)], coat.belly)
    pen.line([(-long + 0.03, 0.12), (-0.3, 0.16), (-0.12, 0.14)], 0.02, shade(coat.belly, -0.6))
    pen.oval(-long + 0.01, 0.01, 0.07, 0.055, BLACK)
    pen.oval(-0.08, -0.12, 0.056, 0.056, (70, 44, 28))
    pen.oval(-0.085, -0.12, 0.036, 0.036, BLACK)
    pen.oval(-0.1, -0.14, 0.014, 0.014, WHITE)
    colour = coat.mark if coat.mark != coat.fur else coat.dark
    hang = rng.uniform(0.2, 0.42)
    pen.curve(
        [(0.06, -0.32), (0.24, -0.32), (0.38, 0.0), (0.34, hang), (0.2, hang - 0.02), (0.1, -0.06)],
        colour,
    )


def _collar(pen: Pen, coat: Coat, x: float, y: float, half: float) -> None:
    if coat.wears:
        pen.line([(x - half, y - 0.02), (x, y + 0.03), (x + half, y - 0.02)], 0.05, coat.collar)
        pen.oval(x, y + 0.06, 0.03, 0.03, (226, 196, 90))


# ------------------------------------------------------------------------------------------- food


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
    crust = vary(rng, rng.choice(BREADS), 12)
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
        [(-wide * 0.96, base - 0.03), (0, base - 0.03), (wide * 0.96, base - 0.03), (wide * 0.98, base + 0.04),
         (wide * 0.84, low), (0, low + 0.03), (-wide * 0.84, low), (-wide * 0.98, base + 0.04)], crust,
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
    pen.curve([(-wide * 0.6, -dome * 0.72), (-wide * 0.1, -dome * 0.86), (-wide * 0.15, -dome * 0.7),
               (-wide * 0.55, -dome * 0.55)], shade(lid, 0.3))  # fmt: skip
    for _ in range(rng.randint(10, 26) if rng.random() < 0.85 else 0):
        angle, radius = rng.uniform(-1.3, 1.3), math.sqrt(rng.random()) * 0.88
        x, y = wide * math.sin(angle) * radius, -dome * (0.28 + 0.62 * math.cos(angle) * radius)
        pen.oval(x, y + 0.008, 0.024, 0.014, shade(lid, -0.25), rng.uniform(-60, 60))
        pen.oval(x, y, 0.022, 0.012, (250, 236, 200), rng.uniform(-60, 60))
    pen.pop()


def sandwich(pen: Pen, rng: Random) -> None:
    """Draw a sandwich of sliced bread: a cut triangle, an upright triangle, or whole slices."""
    crust = vary(rng, rng.choice(BREADS), 12)
    crumb = shade(crust, rng.uniform(0.5, 0.72))
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
    pen.fill(points + (shift, -shift * 0.4), crust)
    pen.fill((points - (0, 0.1)) * 0.9 + (shift, 0.06 - shift * 0.4), crumb)
    for offset, colour in (
        (0.75, rng.choice(GREENS)),
        (0.5, rng.choice(CHEESES)),
        (0.32, rng.choice(MEATS)),
    ):
        leaf = points * 1.03 + (shift * offset, -shift * 0.4 * offset)
        if offset == 0.75:
            edge = smooth([p + (rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03))
                           for a, b in zip(leaf, np.roll(leaf, -1, axis=0), strict=True)
                           for p in np.linspace(a, b, 7)[:-1]])  # fmt: skip
            pen.fill(edge, colour)
        else:
            pen.fill(leaf, colour)
    pen.fill(points, crust)
    pen.fill((points - (-0.05, 0.12)) * 0.87 + (-0.05, 0.13), crumb)
    _crumbs(pen, rng, crumb, -0.22, 0.12, 0.05, 0.33, 20)


def _slices(pen: Pen, rng: Random, crust: Colour, crumb: Colour) -> None:
    """Draw whole slices of a tin loaf, one leaning on the other, fillings in between."""
    loaf = [(-0.36, 0.4), (0, 0.41), (0.36, 0.4), (0.38, -0.05), (0.43, -0.22), (0.34, -0.38),
            (0.1, -0.37), (0, -0.34), (-0.1, -0.37), (-0.34, -0.38), (-0.43, -0.22), (-0.38, -0.05)]  # fmt: skip
    points = np.array(loaf) * 0.95
    shift = rng.uniform(0.1, 0.17)
    pen.curve(points + (shift, -shift * 0.5), crust)
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


SUBJECTS = {"Cat": cat, "Dog": dog, "Hamburger": hamburger, "Sandwich": sandwich}


def subject(
    category: str,
    rng: Random,
    size: float,
    angle: float = 0,
    mirror: bool = False,
    stretch: float = 1,
) -> Image.Image:
    """Return one cat, dog, hamburger or sandwich on a transparent layer cut to its edges.

    Parameters
    ----------
    category : {"Cat", "Dog", "Hamburger", "Sandwich"}
    rng : random.Random
        Where pose, coat and fillings come from.
    size : float
        About the larger side of the subject in pixels.
    angle, mirror, stretch
        As for `Pen`.

    Returns
    -------
    PIL.Image.Image
        Mode RGBA.
    """
    pen = Pen(size, angle, mirror, stretch)
    SUBJECTS[category](pen, rng)
    layer = pen.finish(rng)
    return layer.crop(layer.getchannel("A").point(lambda a: 255 * (a > 60)).getbbox())
