"""Where the drawn subjects stand and how they are photographed: backgrounds, clutter, light, noise."""

import colorsys
import math
from dataclasses import dataclass, field
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from openimager.drawing import BLACK, Pen, shade, subject, vary

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
    width, height = size
    animal = wanted[0] in ANIMALS
    kinds = (
        ("room", "room", "lawn", "street", "blur")
        if animal
        else ("table", "table", "room", "lawn", "blur")
    )
    image = _BACKGROUNDS[rng.choice(kinds)](rng, size)
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
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 1.7)))
    width, height = image.size
    warm, tint = rng.uniform(-0.16, 0.16), rng.uniform(-0.05, 0.05)
    gains = np.array([1 + warm, 1 + tint, 1 - warm], dtype=np.float32) * rng.uniform(0.62, 1.22)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    slope, lean = rng.uniform(0, 0.3), rng.uniform(0, 2 * math.pi)
    light = 1 + slope * (x * math.cos(lean) + y * math.sin(lean))
    light -= rng.uniform(0, 0.16) * (x * x + y * y)
    noise = np.random.default_rng(rng.getrandbits(64)).standard_normal((height, width), np.float32)
    pixels = np.asarray(image, dtype=np.float32) * light[..., None] * gains
    pixels += (noise * rng.uniform(1.5, 9))[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


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


def _placed(
    rng: Random, category: str, befalls: str, size: tuple[int, int], slot: int, slots: int
) -> list[_Layer]:
    """Return the layers of one subject and of what befalls it."""
    width, height = size
    room = min(width / slots * 1.15, height)
    large = rng.uniform(0.55, 0.95) * room
    angle = rng.gauss(0, 9)
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
    """Return left and upper for `image` in its share of the width, inside the picture if it fits."""
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
    if rng.random() < 0.5:
        grey = ImageOps.autocontrast(one.convert("RGB").convert("L"))
        one = Image.merge("RGBA", (*[grey.filter(ImageFilter.CONTOUR)] * 3, one.getchannel("A")))
    else:
        one = Image.merge(
            "RGBA", (*ImageOps.posterize(one.convert("RGB"), 2).split(), one.getchannel("A"))
        )
    edge, rim = round(large * 0.06), round(large * 0.05)
    width, height = one.width + 2 * (edge + rim), one.height + 2 * (edge + rim)
    frame = Image.new("RGBA", (width, height), (*_hue(rng, 0.3, 0.5), 255))
    paper = Image.new("RGBA", (width - 2 * rim, height - 2 * rim), (*_hue(rng, 0.12, 0.95), 255))
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


# ---------------------------------------------------------------------------------------- clutter


def _hue(rng: Random, saturation: float, value: float) -> tuple[int, int, int]:
    """Return a colour of any hue, about as saturated and light as asked for (0 to 1)."""
    s = min(1, max(0, saturation * rng.uniform(0.5, 1.5)))
    v = min(1, max(0.08, value * rng.uniform(0.75, 1.2)))
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(rng.random(), s, v))


def _ball(pen: Pen, rng: Random) -> None:
    colour = _hue(rng, 0.7, 0.85)
    pen.oval(0, 0, 0.45, 0.45, colour)
    pen.curve(
        [(-0.43, -0.1), (0, -0.02), (0.43, -0.1), (0.43, 0.1), (0, 0.18), (-0.43, 0.1)],
        _hue(rng, 0.3, 0.9),
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
    pen.fill([(-0.22, 0.1), (0.22, 0.1), (0.16, 0.5), (-0.16, 0.5)], _hue(rng, 0.5, 0.7))


def _cup(pen: Pen, rng: Random) -> None:
    colour = _hue(rng, 0.4, 0.85)
    pen.oval(0.32, 0.02, 0.16, 0.18, colour)
    pen.oval(0.32, 0.02, 0.09, 0.11, shade(colour, -0.5))
    pen.fill([(-0.34, -0.36), (0.34, -0.36), (0.26, 0.4), (-0.26, 0.4)], colour)
    pen.oval(0, -0.36, 0.34, 0.08, shade(colour, 0.3))
    pen.oval(0, -0.35, 0.29, 0.06, (88, 56, 36))


def _book(pen: Pen, rng: Random) -> None:
    y = 0.4
    for _ in range(rng.randint(1, 4)):
        thick, wide = rng.uniform(0.1, 0.18), rng.uniform(0.34, 0.5)
        pen.fill(
            [(-wide, y - thick), (wide, y - thick), (wide, y), (-wide, y)], _hue(rng, 0.5, 0.7)
        )
        pen.fill([(wide - 0.1, y - thick + 0.02), (wide, y - thick + 0.02), (wide, y - 0.02), (wide - 0.1, y - 0.02)],
                 (236, 230, 214))  # fmt: skip
        y -= thick


def _bottle(pen: Pen, rng: Random) -> None:
    colour = _hue(rng, 0.6, 0.6)
    pen.mirrored(
        [(0, -0.5), (0.06, -0.5), (0.07, -0.24), (0.17, -0.08), (0.17, 0.44), (0.1, 0.5), (0, 0.5)],
        colour,
    )
    pen.fill([(-0.17, 0.05), (0.17, 0.05), (0.17, 0.3), (-0.17, 0.3)], _hue(rng, 0.2, 0.9))


def _cushion(pen: Pen, rng: Random) -> None:
    colour = _hue(rng, 0.5, 0.75)
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


_CLUTTER = ((_ball, "Ball"), (_plant, "Houseplant"), (_cup, "Coffee cup"), (_book, "Book"), (_bottle, "Bottle"),
            (_cushion, None))  # fmt: skip


def _clutter(rng: Random, size: tuple[int, int], large: float, low: bool = False) -> _Layer:
    """Return some object, its larger side about `large` of the picture's smaller one."""
    width, height = size
    draw, category = rng.choice(_CLUTTER)
    pen = Pen(rng.uniform(0.5, 1) * large * min(size), rng.gauss(0, 8), rng.random() < 0.5)
    draw(pen, rng)
    image = pen.finish(rng)
    image = image.crop(image.getchannel("A").getbbox())
    left = rng.uniform(-0.3, 1) * (width - image.width * 0.4)
    upper = rng.uniform(0.72 if low else 0.3, 0.95) * height - image.height / 2
    return _Layer(image, round(left), round(upper), category)


# ------------------------------------------------------------------------------------ backgrounds
# Drawn at half the size and enlarged: four times faster, and a little out of focus.


def _canvas(size: tuple[int, int], colour) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", ((size[0] + 1) // 2, (size[1] + 1) // 2), colour)
    return image, ImageDraw.Draw(image)


def _enlarged(image: Image.Image, size: tuple[int, int], blur: float = 0) -> Image.Image:
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    return image.resize(size, Image.Resampling.BILINEAR)


def _fade(draw: ImageDraw.ImageDraw, box, upper, lower) -> None:
    """Fill the box with a colour that goes from `upper` to `lower`."""
    left, top, right, bottom = (round(edge) for edge in box)
    for y in range(top, bottom, 2):
        share = (y - top) / max(1, bottom - top)
        colour = tuple(round(a + (b - a) * share) for a, b in zip(upper, lower, strict=True))
        draw.rectangle((left, y, right, y + 1), fill=colour)


def _room(rng: Random, size: tuple[int, int]) -> Image.Image:
    wall, floor = _hue(rng, 0.3, 0.75), _hue(rng, 0.35, 0.55)
    image, draw = _canvas(size, wall)
    width, height = image.size
    line = round(rng.uniform(0.5, 0.8) * height)
    pattern = rng.choice(("plain", "stripes", "dots"))
    step = rng.randint(10, 28)
    tone = shade(wall, rng.choice((-0.14, 0.2)))
    for x in range(0, width, step):
        if pattern == "stripes":
            draw.rectangle((x, 0, x + step // 2, line), fill=tone)
        elif pattern == "dots":
            for y in range(x // step % 2 * step // 2, line, step):
                draw.ellipse((x, y, x + step // 4, y + step // 4), fill=tone)
    if rng.random() < 0.5:
        x, y = rng.uniform(0, 0.7) * width, rng.uniform(0, 0.1) * height
        w, h = rng.uniform(0.2, 0.4) * width, line * rng.uniform(0.5, 0.75)
        _fade(draw, (x, y, x + w, y + h), (170, 205, 236), (222, 234, 236))
        draw.rectangle((x, y, x + w, y + h), outline=(240, 236, 228), width=4)
        draw.line((x + w / 2, y, x + w / 2, y + h), fill=(240, 236, 228), width=3)
    _fade(draw, (0, line, width, height), shade(floor, -0.2), floor)
    draw.rectangle((0, line - 4, width, line), fill=shade(wall, 0.5))
    middle = rng.uniform(0.2, 0.8) * width
    for k in range(-9, 10):
        draw.line(
            (middle + k * width / 9, line, middle + k * width / 3, height), fill=shade(floor, -0.3)
        )
    if rng.random() < 0.5:
        x, y = rng.uniform(0.1, 0.9) * width, (line + height) / 2
        for ring in range(3):
            r = (0.45 - 0.13 * ring) * width
            draw.ellipse((x - r, y - r / 4, x + r, y + r / 4), fill=_hue(rng, 0.5, 0.7))
    return _enlarged(image, size)


def _lawn(rng: Random, size: tuple[int, int]) -> Image.Image:
    image, draw = _canvas(size, BLACK)
    width, height = image.size
    line = round(rng.uniform(0.25, 0.6) * height)
    sky = rng.choice(((120, 172, 226), (186, 200, 212), (232, 178, 140), (90, 130, 190)))
    _fade(draw, (0, 0, width, line), vary(rng, sky), shade(sky, 0.5))
    ground = vary(
        rng,
        rng.choice(
            ((92, 140, 60), (140, 150, 70), (206, 186, 140), (226, 230, 236), (160, 120, 80))
        ),
        20,
    )
    for _ in range(rng.randint(2, 7)):
        x, r = rng.uniform(0, 1) * width, rng.uniform(0.06, 0.2) * width
        tree = vary(rng, rng.choice(((60, 104, 54), (90, 130, 60), (180, 110, 50))), 18)
        draw.rectangle((x - r / 8, line - r, x + r / 8, line), fill=(96, 72, 54))
        draw.ellipse((x - r, line - 2.6 * r, x + r, line - r * 0.6), fill=tree)
        draw.ellipse(
            (x - r * 0.7, line - 2.5 * r, x + r * 0.3, line - r * 1.3), fill=shade(tree, 0.12)
        )
    _fade(draw, (0, line, width, height), shade(ground, -0.2), ground)
    for _ in range(170):
        x, y = rng.uniform(0, width), rng.uniform(line, height)
        long = 2 + 8 * (y - line) / height
        draw.line(
            (x, y, x + rng.uniform(-2, 2), y - long), fill=shade(ground, rng.uniform(-0.3, 0.25))
        )
    for _ in range(rng.choice((0, 0, 14, 30))):
        x, y = rng.uniform(0, width), rng.uniform(line, height)
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=_hue(rng, 0.5, 0.95))
    return _enlarged(image, size)


def _street(rng: Random, size: tuple[int, int]) -> Image.Image:
    brick = vary(
        rng, rng.choice(((160, 84, 66), (190, 170, 150), (120, 120, 126), (206, 190, 160))), 18
    )
    image, draw = _canvas(size, shade(brick, 0.3))
    width, height = image.size
    line = round(rng.uniform(0.6, 0.85) * height)
    high = rng.randint(8, 15)
    for row, y in enumerate(range(0, line, high)):
        for x in range(-high * (row % 2), width, high * 2):
            tone = shade(brick, rng.uniform(-0.16, 0.12))
            draw.rectangle((x, y, x + high * 2 - 2, y + high - 2), fill=tone)
    if rng.random() < 0.5:
        x, w = rng.uniform(0, 0.8) * width, rng.uniform(0.2, 0.35) * width
        door = _hue(rng, 0.6, 0.5)
        draw.rectangle((x, line * 0.15, x + w, line), fill=door)
        draw.rectangle((x + w * 0.2, line * 0.25, x + w * 0.8, line * 0.5), fill=shade(door, -0.3))
    stone = vary(rng, (140, 138, 134), 26)
    _fade(draw, (0, line, width, height), shade(stone, -0.2), stone)
    for k in range(8):
        draw.line((k * width / 6 - 30, line, k * width / 4 - 90, height), fill=shade(stone, -0.3))
    return _enlarged(image, size)


def _table(rng: Random, size: tuple[int, int]) -> Image.Image:
    image = _blur(rng, size).resize(((size[0] + 1) // 2, (size[1] + 1) // 2))
    draw = ImageDraw.Draw(image)
    width, height = image.size
    line = round(rng.uniform(0.0, 0.55) * height)
    top = _hue(rng, 0.45, 0.7) if rng.random() < 0.5 else vary(rng, (150, 106, 70), 40)
    _fade(draw, (0, line, width, height), shade(top, -0.15), top)
    kind, step = rng.choice(("planks", "checks", "plain", "stripes")), rng.randint(14, 34)
    if kind == "planks":
        for y in range(line, height, step):
            draw.line((0, y, width, y), fill=shade(top, -0.35))
            for _ in range(4):
                x, long = rng.uniform(-0.2, 1) * width, rng.uniform(0.1, 0.4) * width
                draw.line((x, y + step / 2, x + long, y + step / 2 + 2), fill=shade(top, -0.16))
    elif kind != "plain":
        tone = rng.choice((shade(top, 0.5), _hue(rng, 0.5, 0.8)))
        for x in range(0, width, step):
            for y in range(line, height, step // 2 if kind == "checks" else height):
                if kind == "stripes" or (x // step + y // (step // 2)) % 2:
                    low = y + step // 2 if kind == "checks" else height
                    draw.rectangle(
                        (x, y, x + (step if kind == "checks" else step // 2), low), fill=tone
                    )
    if rng.random() < 0.5:
        x, y, r = (
            rng.uniform(0.25, 0.75) * width,
            rng.uniform(0.55, 0.9) * height,
            rng.uniform(0.25, 0.42) * width,
        )
        plate = _hue(rng, 0.1, 0.95)
        draw.ellipse((x - r, y - r * 0.42, x + r, y + r * 0.42), fill=shade(plate, -0.25))
        draw.ellipse((x - r, y - r * 0.45, x + r, y + r * 0.38), fill=plate)
        draw.ellipse(
            (x - r * 0.7, y - r * 0.3, x + r * 0.7, y + r * 0.24), fill=shade(plate, -0.08)
        )
    return _enlarged(image, size)


def _blur(rng: Random, size: tuple[int, int]) -> Image.Image:
    image, draw = _canvas(size, BLACK)
    width, height = image.size
    _fade(draw, (0, 0, width, height), _hue(rng, 0.4, 0.6), _hue(rng, 0.4, 0.6))
    for _ in range(rng.randint(6, 22)):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.02, 0.18) * width
        draw.ellipse((x - r, y - r, x + r, y + r), fill=_hue(rng, 0.5, 0.75))
    return _enlarged(image, size, rng.uniform(2, 6))


_BACKGROUNDS = {"room": _room, "lawn": _lawn, "street": _street, "table": _table, "blur": _blur}
