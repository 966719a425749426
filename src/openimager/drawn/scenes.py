"""Scenes put together from subjects, clutter and a background, and photographed."""

import math
from dataclasses import dataclass, field
from random import Random

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from openimager.drawn.animals import cat, dog
from openimager.drawn.backgrounds import BACKGROUNDS
from openimager.drawn.clutter import CLUTTER
from openimager.drawn.food import hamburger, sandwich
from openimager.drawn.pen import Pen, hue, vary

SUBJECTS = {"Cat": cat, "Dog": dog, "Hamburger": hamburger, "Sandwich": sandwich}
ANIMALS = ("Cat", "Dog")
SITUATIONS = ("plain", "occluded", "truncated", "group", "depiction", "inside")


@dataclass
class Thing:
    """Something in a scene that gets a box.

    Attributes
    ----------
    category : str
    box : tuple of int
        Left, upper, right, lower, in pixels of the upright scene.
    flags : dict of str to int
        IsOccluded, IsTruncated, IsGroupOf, IsDepiction and IsInside.
    """

    category: str
    box: tuple[int, int, int, int]
    flags: dict[str, int]


@dataclass
class _Layer:
    image: Image.Image
    left: int
    upper: int
    category: str | None = None
    flags: dict[str, int] = field(default_factory=dict)
    # What is pictured on it: (category, left, upper, right, lower) within the layer.
    pictured: tuple | None = None


def scene(
    rng: Random, wanted: list[str], situation: str, size: tuple[int, int]
) -> tuple[Image.Image, list[Thing]]:
    """Draw one scene, sharp and in even light; `photograph` makes a photo of it.

    Parameters
    ----------
    rng : random.Random
    wanted : list of str
        The subjects, one category for each of them, the main one first.
    situation : str
        What befalls the main one, of `SITUATIONS`.
    size : tuple of int
        Width and height in pixels.

    Returns
    -------
    image : PIL.Image.Image
        Mode RGB.
    things : list of Thing
        Boxes of what can be seen, and the flags that hold for them.
    """
    animal = wanted[0] in ANIMALS
    kinds = (
        ("room", "room", "lawn", "street", "blur")
        if animal
        else ("table", "table", "room", "lawn", "blur")
    )
    image = BACKGROUNDS[rng.choice(kinds)](rng, size)
    layers = [_clutter(rng, size, 0.3) for _ in range(rng.randint(0, 4))]
    slots = list(range(len(wanted)))
    rng.shuffle(slots)
    for slot, category in zip(slots, wanted, strict=True):
        main = category is wanted[0] and not any(layer.category == category for layer in layers)
        befalls = situation if main else "plain"
        layers += _placed(rng, category, befalls, size, slot, len(wanted))
    if rng.random() < 0.3:
        layers.append(_clutter(rng, size, 0.22, low=True))
    for layer in layers:
        image.paste(layer.image, (layer.left, layer.upper), layer.image)
    return image, _things(layers, size)


def photograph(rng: Random, image: Image.Image) -> Image.Image:
    """Return the scene as a camera sees it: coloured uneven light, blur, noise.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, the same size.
    """
    if rng.random() < 0.35:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 1.8)))
    warm, tint, exposure = (
        rng.uniform(-0.13, 0.13),
        rng.uniform(-0.05, 0.05),
        rng.uniform(0.78, 1.25),
    )
    x, y = np.meshgrid(np.linspace(-1, 1, 24), np.linspace(-1, 1, 24))
    slope, lean, corners = rng.uniform(0, 0.3), rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.16)
    light = 1 + slope * (x * math.cos(lean) + y * math.sin(lean)) - corners * (x * x + y * y)
    # Bytes hold no light above 1: the brightest place is 1, and the gains make up for it.
    brightest = light.max()
    light = Image.fromarray((light / brightest * 255).astype(np.uint8))
    light = light.resize(image.size, Image.Resampling.BILINEAR)
    gains = [exposure * brightest * gain for gain in (1 + warm, 1 + tint, 1 - warm)]
    image = image.point([min(255, round(value * gain)) for gain in gains for value in range(256)])
    image = ImageChops.multiply(image, Image.merge("RGB", (light, light, light)))
    left, upper = (
        rng.randrange(_NOISE.width - image.width),
        rng.randrange(_NOISE.height - image.height),
    )
    grain = rng.uniform(0.05, 0.28)
    noise = _NOISE.crop((left, upper, left + image.width, upper + image.height))
    noise = noise.point([round(128 + (value - 128) * grain) for value in range(256)])
    return ImageChops.add(image, Image.merge("RGB", (noise, noise, noise)), offset=-128)


# One large piece of noise (a standard deviation of 25), of which each photo takes a part.
_NOISE = Image.fromarray(
    np.clip(np.random.default_rng(0).standard_normal((900, 900), np.float32) * 25 + 128, 0, 255)
    .astype(np.uint8)
)  # fmt: skip


def _things(layers: list[_Layer], size: tuple[int, int]) -> list[Thing]:
    """Find what can be seen of each layer, from the layer that owns each pixel."""
    width, height = size
    owner = np.full((height, width), -1, dtype=np.int16)
    inside, whole = [], []
    for index, layer in enumerate(layers):
        mask = np.asarray(layer.image.getchannel("A")) > 96
        left, upper = max(0, -layer.left), max(0, -layer.upper)
        shown = mask[upper : height - layer.upper, left : width - layer.left]
        y, x = layer.upper + upper, layer.left + left
        owner[y : y + shown.shape[0], x : x + shown.shape[1]][shown] = index
        inside.append(int(shown.sum()))
        whole.append(int(mask.sum()))
    things = []
    for index, layer in enumerate(layers):
        if layer.category is None:
            continue
        seen = owner == index
        count = int(seen.sum())
        if count < 0.25 * whole[index] or count < 400:
            continue
        columns, rows = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        flags = dict.fromkeys(
            ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"), 0
        )
        flags["IsOccluded"] = int(count < 0.93 * inside[index])
        flags["IsTruncated"] = int(inside[index] < 0.97 * whole[index])
        things.append(Thing(layer.category, box, flags | layer.flags))
        if layer.pictured:
            category, *edges = layer.pictured
            box = [e + o for e, o in zip(edges, (layer.left, layer.upper) * 2, strict=True)]
            box = [min(max(e, 0), limit) for e, limit in zip(box, (width, height) * 2, strict=True)]
            if box[2] - box[0] > 8 and box[3] - box[1] > 8:
                drawn = flags | {"IsDepiction": 1}
                things.append(Thing(category, tuple(box), drawn))
    return things


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
    return pen.finish(rng)


def _placed(
    rng: Random, category: str, befalls: str, size: tuple[int, int], slot: int, slots: int
) -> list[_Layer]:
    """Return the layers of one subject and of what befalls it."""
    width, height = size
    room = min(width / slots * 1.15, height)
    large = rng.uniform(0.6, 0.95) * room
    # Food is seen from any side; an animal stands on its feet.
    angle = rng.gauss(0, 7 if category in ANIMALS else 22)
    look = {"angle": angle, "mirror": rng.random() < 0.5, "stretch": rng.uniform(0.88, 1.14)}
    if befalls == "group":
        return [_group(rng, category, size)]
    if befalls == "depiction":
        image, pictured = _poster(rng, category, large)
        left, upper = _spot(rng, image, size, slot, slots)
        return [_Layer(image, left, upper, "Picture frame", pictured=pictured)]
    image = subject(category, rng, large, **look)
    left, upper = _spot(rng, image, size, slot, slots)
    if befalls == "truncated":
        share = rng.uniform(0.15, 0.4)
        side = rng.choice(("left", "right", "lower"))
        if side == "lower":
            upper = round(height - image.height * (1 - share))
        else:
            left = round(
                -image.width * share if side == "left" else width - image.width * (1 - share)
            )
    layers = [_Layer(image, left, upper, category)]
    if befalls == "inside":
        layers[0].flags["IsInside"] = 1
        layers.append(_crate(rng, image, left, upper))
    if befalls == "occluded":
        item = _clutter(rng, size, 0.3).image
        share = rng.uniform(0.4, 0.65) * max(image.size) / max(item.size)
        item = item.resize((max(1, round(item.width * share)), max(1, round(item.height * share))))
        x = left + rng.uniform(0, 1) * image.width - item.width / 2
        y = upper + rng.uniform(0.55, 1) * image.height - item.height / 2
        layers.append(_Layer(item, round(x), round(y)))
    return layers


def _spot(
    rng: Random, image: Image.Image, size: tuple[int, int], slot: int, slots: int
) -> tuple[int, int]:
    """Return left and upper for `image` in its share of the width, inside if it fits."""
    width, height = size
    share = width / slots
    left = share * slot + rng.uniform(0.1, 0.9) * (share - image.width)
    left = min(max(left, 2), max(2, width - image.width - 2))
    upper = rng.uniform(0.15, 0.95) * (height - image.height)
    return round(left), round(max(upper, 2))


def _group(rng: Random, category: str, size: tuple[int, int]) -> _Layer:
    """Return six to nine subjects that stand close together, as one layer."""
    width, height = size
    count = rng.randint(6, 9)
    wide, high = round(rng.uniform(0.7, 0.95) * width), round(rng.uniform(0.5, 0.75) * height)
    layer = Image.new("RGBA", (wide, high))
    large = min(wide * 0.36, high * 0.62)
    for index in range(count):
        one = subject(
            category, rng, large * rng.uniform(0.8, 1.1), rng.gauss(0, 7), rng.random() < 0.5
        )
        x = (index % 4 + 0.5 * (index // 4)) / 4 * (wide - one.width) + rng.uniform(
            -0.03, 0.03
        ) * wide
        y = (index // 4) / 2 * (high - one.height) + rng.uniform(0, 0.06) * high
        layer.paste(one, (max(0, round(x)), max(0, round(y))), one)
    layer = layer.crop(layer.getchannel("A").getbbox())
    left, upper = _spot(rng, layer, size, 0, 1)
    return _Layer(layer, left, upper, category, {"IsGroupOf": 1, "IsOccluded": 1})


def _poster(rng: Random, category: str, large: float) -> tuple[Image.Image, tuple]:
    """Return a framed drawing of a subject, and where on it the subject is."""
    one = subject(category, rng, large * 0.8, rng.gauss(0, 4), rng.random() < 0.5)
    if rng.random() < 0.3:
        grey = ImageOps.autocontrast(one.convert("RGB").convert("L"))
        one = Image.merge("RGBA", (*[grey.filter(ImageFilter.CONTOUR)] * 3, one.getchannel("A")))
    else:
        one = Image.merge(
            "RGBA", (*ImageOps.posterize(one.convert("RGB"), 2).split(), one.getchannel("A"))
        )
    edge, rim = round(large * 0.06), round(large * 0.05)
    width, height = one.width + 2 * (edge + rim), one.height + 2 * (edge + rim)
    frame = Image.new("RGBA", (width, height), (*hue(rng, 0.3, 0.5), 255))
    paper = Image.new("RGBA", (width - 2 * rim, height - 2 * rim), (*hue(rng, 0.12, 0.95), 255))
    frame.paste(paper, (rim, rim))
    frame.paste(one, (rim + edge, rim + edge), one)
    left = rim + edge
    return frame, (category, left, left, left + one.width, left + one.height)


def _crate(rng: Random, image: Image.Image, left: int, upper: int) -> _Layer:
    """Return the bars of a crate that stands around `image`."""
    rim = round(0.06 * max(image.size))
    width, height = image.width + 2 * rim, image.height + 2 * rim
    layer = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(layer)
    colour = (*vary(rng, rng.choice(((60, 62, 70), (150, 110, 70), (190, 190, 196)))), 255)
    draw.rectangle((0, 0, width - 1, height - 1), outline=colour, width=max(2, rim // 2))
    bars = rng.randint(4, 7)
    for index in range(1, bars):
        x = width * index / bars
        draw.line((x, 0, x, height), fill=colour, width=max(2, rim // 5))
    return _Layer(layer, left - rim, upper - rim)


def _clutter(rng: Random, size: tuple[int, int], large: float, low: bool = False) -> _Layer:
    """Return some object, its larger side about `large` of the picture's smaller one."""
    width, height = size
    draw, category = rng.choice(CLUTTER)
    pen = Pen(rng.uniform(0.5, 1) * large * min(size), rng.gauss(0, 8), rng.random() < 0.5)
    draw(pen, rng)
    image = pen.finish(rng)
    left = rng.uniform(-0.3, 1) * (width - image.width * 0.4)
    upper = rng.uniform(0.72 if low else 0.3, 0.95) * height - image.height / 2
    return _Layer(image, round(left), round(upper), category)
