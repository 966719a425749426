"""Hamburgers and sandwiches: of the same bread and fillings, so that colour is no clue."""

import math

import numpy as np

from openimager_sample.pen import Pen, shade, vary

BREADS = ((206, 140, 70), (224, 164, 92), (188, 118, 60), (170, 104, 56), (232, 184, 120))
FILLINGS = {
    "meat": ((92, 56, 38), (112, 70, 48), (78, 48, 36), (216, 138, 130), (196, 112, 108)),
    "cheese": ((250, 190, 50), (246, 210, 96), (236, 160, 44)),
    "lettuce": ((96, 158, 52), (130, 186, 70), (74, 134, 50)),
    "tomato": ((204, 58, 44), (222, 84, 60)),
    "onion": ((240, 230, 236),),
}


def hamburger(pen: Pen) -> None:
    """Draw a hamburger: a round bun with sesame above, fillings, a flat bun below."""
    rng = pen.rng
    _bread(pen)
    layers = ["meat", *rng.sample(("cheese", "lettuce", "tomato", "onion"), rng.randint(2, 4))]
    layers += ["meat", "cheese"] * (rng.random() < 0.3)
    wide, depth = rng.uniform(42, 50), 6.5 * len(layers) * rng.uniform(0.9, 1.15)
    top, base, low = 2 - depth / 2, 2 + depth / 2, rng.uniform(10, 15)
    with pen.at(0, base):
        half = f"{wide * 0.96} -3 {wide * 0.98} 4 {wide * 0.84} {low}"
        pen.draw(f"mirror crust 0 -3 {half} 0 {low + 3}")
        pen.draw(f"line crumb 3 1 -{wide * 0.92} -2 0 0 {wide * 0.92} -2")
    _fill(pen, wide * 0.98, top, base, layers)
    dome = rng.uniform(24, 36)
    with pen.at(rng.uniform(-2, 2), top, 1, rng.uniform(-5, 5)):
        half = np.array([(0, -1), (0.5, -0.92), (0.86, -0.6), (1, -0.16)]) * (wide, dome)
        pen.add("mirror", "crust+6", *half.ravel(), wide * 0.92, 3, wide * 0.4, 4.5, 0, 5)
        shine = np.array([(-0.6, -0.72), (-0.1, -0.86), (-0.15, -0.7), (-0.55, -0.55)])
        pen.add("curve", "crust+34", *(shine * (wide, dome)).ravel())
        for _ in range(rng.randint(10, 26) if rng.random() < 0.85 else 0):
            angle, far = rng.uniform(-1.3, 1.3), math.sqrt(rng.random()) * 0.88
            x, y = wide * math.sin(angle) * far, -dome * (0.28 + 0.62 * math.cos(angle) * far)
            pen.draw(f"oval crust-20 {x} {y + 0.8} 2.4 1.4; oval seed {x} {y} 2.2 1.2 -60~60")


def sandwich(pen: Pen) -> None:
    """Draw a sandwich of sliced bread: a cut triangle, an upright triangle, or whole slices."""
    _bread(pen)
    pen.rng.choice((_wedge, _leaning, _toast))(pen)


def _bread(pen: Pen) -> None:
    """Choose the colours of the bread, pale to dark: the same range for buns and for slices."""
    rng = pen.rng
    crust = vary(rng, [shade(rng.choice(BREADS), rng.uniform(-0.3, 0.5))], 14)
    crumb = shade(crust, rng.uniform(-0.12, 0.5))
    pen.colours |= {"crust": crust, "crumb": crumb, "seed": (250, 236, 200), "gap": (96, 66, 44)}
    pen.colours |= {name: vary(rng, colours, 10) for name, colours in FILLINGS.items()}


def _fill(pen: Pen, wide: float, top: float, base: float, layers=None) -> None:
    """Draw fillings from the lowest to the highest."""
    rng = pen.rng
    layers = layers or rng.sample([*FILLINGS, "lettuce"], rng.randint(3, 5))
    step = (base - top) / len(layers)
    # Something dark behind them, so that no background shows through.
    _slab(pen, "gap", wide * 0.9, top, base)
    for index, layer in enumerate(layers):
        low = base - index * step
        high, middle = low - step, low - step / 2
        with pen.at(rng.uniform(-2, 2), 0):
            end = wide - step / 2
            if layer == "cheese":
                _slab(pen, layer, wide, high, low)
                for _ in range(rng.randint(1, 3)):
                    x = rng.uniform(8 - wide, wide - 8)
                    pen.draw(f"fill cheese {x - 10} {low - 1} {x + 10} {low - 1} {x} {low + 7}")
            elif layer == "lettuce":
                x, wave = np.linspace(wide + 2, -wide - 2, rng.randint(7, 11)), (0.75, 1.4)
                y = [high + step * wave[i % 2] * rng.uniform(0.8, 1.1) for i in range(len(x))]
                pen.add("curve", layer, -x[0], high, x[0], high, *np.stack([x, y], 1).ravel())
                for at, end in list(zip(x, y, strict=True))[1:-1:2]:
                    pen.add("line", "lettuce+30", 1.2, 1, at, high + 2, at, end - 1)
            elif layer == "tomato":
                x = rng.uniform(-0.2, 0.2) * wide
                pen.draw(f"line tomato {step} 1 {3 - end} {middle} {x - 4} {middle}")
                pen.draw(f"line tomato-8 {step} 1 {x + 4} {middle} {end - 3} {middle}")
            else:
                thick = step * (0.6 if layer == "onion" else 1)
                pen.draw(f"line {layer} {thick} 1 -{end} {middle} {end} {middle}")
            if layer == "meat":
                _specks(pen, "meat-20", end, high, low)


def _slab(pen: Pen, colour: str, wide: float, top: float, base: float) -> None:
    pen.add("fill", colour, -wide, top, wide, top, wide, base, -wide, base)


def _specks(pen: Pen, colour: str, wide: float, top: float, base: float, count: int = 14) -> None:
    for _ in range(count):
        pen.draw(f"oval {colour} {-wide}~{wide} {top}~{base} 1.5 1.1")


def _slice(pen: Pen, wide: float, top: float, base: float) -> None:
    """Draw a slice of bread seen from the side."""
    _slab(pen, "crust", wide, top, base)
    _slab(pen, "crumb", wide * 0.97, top + 2, base - 2)
    _specks(pen, "crumb-12", wide - 5, top + 3, base - 3)


def _wedge(pen: Pen) -> None:
    """Draw half a sandwich that lies flat: its cut face in front, a triangle of bread on top."""
    rng = pen.rng
    thick, depth = rng.uniform(7, 10), rng.uniform(20, 30)
    tip, back = rng.uniform(-20, 25), rng.uniform(-46, -36)
    low = depth + thick - 8
    _slice(pen, 50, low, low + thick)
    _fill(pen, 50, thick - 8, low + 1)
    pen.draw(f"fill crust -50 -8 {tip} {back} 50 -8\nfill crust+18 -44 -8 {tip} {back + 5} 44 -8")
    _slice(pen, 50, -8, thick - 8)


def _leaning(pen: Pen) -> None:
    """Draw two slices or triangles with fillings between them, one leaning on the other."""
    rng = pen.rng
    if rng.random() < 0.5:
        kind, edge, middle = "fill", np.array([(-46, 42), (-5, -46), (36, 42)]), (-5, 13)
    else:
        half = [(0, -34), (10, -37), (34, -38), (43, -22), (38, -5), (36, 40), (0, 41)]
        loaf = [*half, *((-x, y) for x, y in half[-2:0:-1])]
        kind, edge, middle = "curve", np.array(loaf) * 0.95, (0, 0)
    inner, shift = (edge - middle) * 0.88 + middle, np.array((1, -0.45)) * rng.uniform(11, 17)
    # Points along each side, so that the edges of the fillings can be wavy.
    points = np.linspace(edge, np.roll(edge, -1, axis=0), 4).swapaxes(0, 1).reshape(-1, 2)
    pen.add(kind, "crust", *(edge + shift).ravel())
    for colour, share in (("lettuce", 0.8), ("meat", 0.55), ("cheese", 0.35), ("lettuce-10", 0.2)):
        wave = [(rng.uniform(-2, 2), rng.uniform(-2, 2)) for _ in points]
        pen.add("fill", colour, *(points * 1.03 + shift * share + wave).ravel())
    pen.add(kind, "crust", *edge.ravel())
    pen.add(kind, "crumb", *inner.ravel())
    _specks(pen, "crumb-12", 15, 0, 32, 20)


def _toast(pen: Pen) -> None:
    """Draw a stack seen from the side: flat slices, one or two storeys, often a stick."""
    rng = pen.rng
    storeys = rng.choice((1, 1, 2))
    thick, wide = rng.uniform(8.5, 12), rng.uniform(42, 50)
    depth = rng.uniform(18, 26) if storeys == 1 else 17
    y = (storeys * (thick + depth) + thick) / 2
    if rng.random() < 0.5:
        pen.colours["olive"] = rng.choice(((120, 140, 50), (200, 50, 40)))
        pen.draw(f"line seed-15 1.8 1 0 {-y - 24} 0 0\noval olive 0 {-y - 20} 5 4.2")
    for storey in range(storeys + 1):
        if storey:
            _fill(pen, wide, y - depth, y + 1)
            y -= depth
        _slice(pen, wide, y - thick, y)
        y -= thick
