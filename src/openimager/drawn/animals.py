"""How a cat and a dog are drawn: from the same coats and in much the same poses."""

from random import Random

from openimager.drawn.pen import BLACK, PINK, WHITE, Pen, shade, vary

# Cats and dogs share their coats, buns and slices their crusts: colour must not tell them apart.
COATS = (
    (46, 42, 44), (92, 92, 100), (150, 148, 150), (214, 208, 200), (240, 236, 228),
    (206, 140, 74), (226, 178, 116), (150, 98, 58), (96, 64, 44), (184, 152, 116),
)  # fmt: skip

EYES = ((140, 200, 70), (150, 200, 90), (224, 186, 50), (206, 150, 50), (110, 160, 200))


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
    tabby = rng.random() < 0.6
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
            [(0.16 * tail, 0.44), (0.42 * tail, 0.4), (0.46 * tail, 0.12),
             (0.38 * tail + sway, -0.12)], 0.085, coat.dark, 0.7,
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
        pen.push(rng.uniform(-0.04, 0.04), -0.3, 0.6, rng.uniform(-12, 12))
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
        pen.push(-0.37, rng.uniform(-0.24, -0.14), 0.54, rng.uniform(-12, 12))
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
        pen.push(-0.25, -0.06, 0.62, rng.uniform(-14, 14))
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
        [(0, -0.36), (0.28, -0.32), (0.46, -0.06), (0.5, 0.14), (0.34, 0.33), (0.13, 0.42),
         (0, 0.43)], coat.fur,
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
    iris = vary(rng, rng.choice(EYES))
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
    patched = rng.random() < 0.5
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
        pen.push(rng.uniform(-0.04, 0.04), -0.3, 0.62, rng.uniform(-12, 12))
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
            pen.push(-0.42, rng.uniform(-0.28, -0.22), 0.58, rng.uniform(-10, 14))
            _dog_profile(pen, rng, coat)
        else:
            pen.push(-0.37, rng.uniform(-0.26, -0.18), 0.54, rng.uniform(-12, 12))
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
        pen.push(-0.25, -0.06, 0.64, rng.uniform(-14, 14))
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
        [(0.16 * side, -0.4), (0.36 * side, -0.4), (0.5 * side, -0.16),
         (0.54 * side, 0.06 + length), (0.43 * side, 0.16 + length),
         (0.33 * side, 0.02 + length / 2), (0.26 * side, -0.2)], colour,
    )  # fmt: skip


def _dog_face(pen: Pen, rng: Random, coat: Coat) -> None:
    """Draw a dog's head from the front, about one unit high."""
    kind = rng.choice(("short", *3 * ("hanging",), *4 * ("long",), "pricked"))
    if kind == "pricked":
        for side in (-1, 1):
            _dog_ear(pen, rng, side, coat, kind)
    pen.mirrored(
        [(0, -0.42), (0.22, -0.39), (0.35, -0.2), (0.34, 0.02), (0.25, 0.2), (0.22, 0.36),
         (0.12, 0.46), (0, 0.48)], coat.fur,
    )  # fmt: skip
    if rng.random() < 0.4:
        pen.curve([(-0.05, -0.42), (0.05, -0.42), (0.07, 0.0), (-0.07, 0.0)], coat.belly)
    if rng.random() < 0.3:
        pen.oval(0.17, -0.1, 0.13, 0.16, coat.mark)
    width = rng.uniform(0.19, 0.25)
    if rng.random() < 0.7:
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
