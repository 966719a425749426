"""Scenes of subjects, other things and a background, and the photo that is taken of them."""

import math
from dataclasses import dataclass, field
from random import Random

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from openimager.store import FLAGS
from openimager_sample.animals import cat, dog
from openimager_sample.backgrounds import background
from openimager_sample.food import hamburger, sandwich
from openimager_sample.pen import Pen, hue, vary
from openimager_sample.things import THINGS

SUBJECTS = {"Cat": cat, "Dog": dog, "Hamburger": hamburger, "Sandwich": sandwich}
# One large image of noise, from which each photo takes a part.
_NOISE = np.random.default_rng(0).standard_normal((900, 900), np.float32) * 25 + 128
_NOISE = Image.fromarray(np.clip(_NOISE, 0, 255).astype(np.uint8))


@dataclass
class Layer:
    """A picture in a scene; `pictured` is what is drawn on it, as (category, box within it)."""

    image: Image.Image
    left: int
    upper: int
    category: str | None = None
    flags: dict[str, int] = field(default_factory=dict)
    pictured: tuple | None = None


def scene(rng: Random, wanted: list[str], situation: str, size: tuple[int, int]):
    """Draw `wanted` subjects, the first in a `situation`.

    Returns the image, and category, box (left, upper, right, lower) and flags of what can be seen.
    """
    usual = "room" if wanted[0] in ("Cat", "Dog") else "table"
    image = background(rng, rng.choice((usual, usual, "room", "lawn", "blur")), size)
    layers = [_thing(rng, size, 0.3) for _ in range(rng.randint(0, 4))]
    slots, shown = rng.sample(range(len(wanted)), len(wanted)), [situation, "plain", "plain"]
    for slot, category, how in zip(slots, wanted, shown, strict=False):
        layers += _placed(rng, category, how, size, slot, len(wanted))
    if rng.random() < 0.3:
        layers.append(_thing(rng, size, 0.22, low=True))
    for layer in layers:
        image.paste(layer.image, (layer.left, layer.upper), layer.image)
    return image, _boxes(layers, size)


def photograph(rng: Random, image: Image.Image) -> Image.Image:
    """Return a scene as a camera sees it: tinted uneven light, blur, noise."""
    if rng.random() < 0.35:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 1.8)))
    warm, tint = rng.uniform(-0.13, 0.13), rng.uniform(-0.05, 0.05)
    x, y = np.meshgrid(np.linspace(-1, 1, 24), np.linspace(-1, 1, 24))
    slope, lean, corners = rng.uniform(0, 0.3), rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.16)
    light = 1 + slope * (x * math.cos(lean) + y * math.sin(lean)) - corners * (x * x + y * y)
    # Bytes hold no light above 1: the brightest place becomes 1, and the gains make up for it.
    exposure = rng.uniform(0.78, 1.25) * light.max()
    light = Image.fromarray((light / light.max() * 255).astype(np.uint8))
    light = light.resize(image.size, Image.Resampling.BILINEAR)
    gains = [exposure * gain for gain in (1 + warm, 1 + tint, 1 - warm)]
    image = image.point([min(255, round(value * gain)) for gain in gains for value in range(256)])
    image = ImageChops.multiply(image, Image.merge("RGB", (light, light, light)))
    left, upper, grain = rng.randrange(200), rng.randrange(200), rng.uniform(0.05, 0.28)
    noise = _NOISE.crop((left, upper, left + image.width, upper + image.height))
    noise = noise.point([round(128 + (value - 128) * grain) for value in range(256)])
    return ImageChops.add(image, Image.merge("RGB", (noise, noise, noise)), offset=-128)


def subject(category: str, rng: Random, size: float, angle=0.0, stretch=1.0) -> Image.Image:
    """Return one cat, dog, hamburger or sandwich in mode RGBA, about `size` pixels large."""
    pen = Pen(rng, size, angle, rng.random() < 0.5, stretch)
    SUBJECTS[category](pen)
    return pen.finish()


def _boxes(layers: list[Layer], size: tuple[int, int]) -> list[tuple]:
    """Find what can be seen of each layer, from the layer that owns each pixel."""
    width, height = size
    owner, inside, whole = np.full((height, width), -1, dtype=np.int16), [], []
    for index, layer in enumerate(layers):
        mask = np.asarray(layer.image.getchannel("A")) > 96
        left, upper = max(0, -layer.left), max(0, -layer.upper)
        shown = mask[upper : height - layer.upper, left : width - layer.left]
        y, x = layer.upper + upper, layer.left + left
        owner[y : y + shown.shape[0], x : x + shown.shape[1]][shown] = index
        inside.append(int(shown.sum()))
        whole.append(int(mask.sum()))
    boxes = []
    for index, layer in enumerate(layers):
        seen = owner == index
        count = int(seen.sum())
        if layer.category is None or count < max(400, 0.25 * whole[index]):
            continue
        columns, rows = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        hidden, cut = count < 0.93 * inside[index], inside[index] < 0.97 * whole[index]
        flags = dict.fromkeys(FLAGS, 0) | {"IsOccluded": int(hidden), "IsTruncated": int(cut)}
        boxes.append((layer.category, box, flags | layer.flags))
        if layer.pictured:
            category, box = layer.pictured
            box = np.clip(np.add(box, (layer.left, layer.upper) * 2), 0, (width, height) * 2)
            boxes.append((category, tuple(box.tolist()), flags | {"IsDepiction": 1}))
    return boxes


def _placed(rng: Random, category: str, shown: str, size, slot: int, slots: int) -> list[Layer]:
    """Return the layers of one subject in its share of the width."""
    width, height = size
    large = rng.uniform(0.6, 0.95) * min(width / slots * 1.15, height)
    # Food is photographed at any angle; an animal stands on its feet.
    angle = rng.gauss(0, 7 if category in ("Cat", "Dog") else 22)
    flags, picture, share = {}, None, width / slots
    if shown == "group":
        image, flags = _group(rng, category, size), {"IsGroupOf": 1, "IsOccluded": 1}
    elif shown == "depiction":
        image, box = _poster(rng, category, large)
        category, picture = "Picture frame", (category, box)
    else:
        image = subject(category, rng, large, angle, rng.uniform(0.88, 1.14))
    left = round(share * slot + rng.uniform(0.1, 0.9) * (share - image.width))
    left = min(max(left, 2), max(2, width - image.width - 2))
    upper = max(2, round(rng.uniform(0.15, 0.95) * (height - image.height)))
    if shown == "truncated":
        hidden = rng.uniform(0.15, 0.4)
        outside = round(-image.width * hidden)
        left = rng.choice((left, outside, width - image.width - outside))
        if left > 0 and left + image.width < width:
            upper = round(height - image.height * (1 - hidden))
    layers = [Layer(image, left, upper, category, flags, picture)]
    if shown == "inside":
        flags["IsInside"] = 1
        layers.append(Layer(*_crate(rng, image, left, upper)))
    if shown == "occluded":
        item = _thing(rng, size, 0.3).image
        item = ImageOps.contain(item, 2 * [round(rng.uniform(0.4, 0.65) * max(image.size))])
        x = left + rng.uniform(0, 1) * image.width - item.width / 2
        y = upper + rng.uniform(0.55, 1) * image.height - item.height / 2
        layers.append(Layer(item, round(x), round(y)))
    return layers


def _group(rng: Random, category: str, size: tuple[int, int]) -> Image.Image:
    """Return six to nine subjects close together."""
    wide, high = round(rng.uniform(0.7, 0.95) * size[0]), round(rng.uniform(0.5, 0.75) * size[1])
    layer = Image.new("RGBA", (wide, high))
    for index in range(rng.randint(6, 9)):
        large, row = rng.uniform(0.8, 1.1) * min(wide * 0.36, high * 0.62), index // 4
        one = subject(category, rng, large, rng.gauss(0, 7))
        x = (index % 4 + 0.5 * row) / 4 * (wide - one.width) + rng.uniform(-0.03, 0.03) * wide
        y = row / 2 * (high - one.height) + rng.uniform(0, 0.06) * high
        layer.paste(one, (max(0, round(x)), max(0, round(y))), one)
    return layer.crop(layer.getchannel("A").getbbox())


def _poster(rng: Random, category: str, large: float) -> tuple[Image.Image, tuple]:
    """Return a framed drawing of a subject, and the subject's box on it."""
    one = subject(category, rng, large * 0.8, rng.gauss(0, 4))
    flat, alpha = ImageOps.posterize(one.convert("RGB"), 2), one.getchannel("A")
    if rng.random() < 0.3:
        flat = ImageOps.autocontrast(flat.convert("L")).filter(ImageFilter.CONTOUR).convert("RGB")
    at = round(large * 0.11)
    poster = Image.new("RGB", (one.width + 2 * at, one.height + 2 * at), hue(rng, 0.12, 0.95))
    poster.paste(flat, (at, at), alpha)
    size, wood = poster.size, hue(rng, 0.3, 0.5)
    ImageDraw.Draw(poster).rectangle((0, 0, *size), outline=wood, width=round(large * 0.05))
    return poster.convert("RGBA"), (at, at, at + one.width, at + one.height)


def _crate(rng: Random, around: Image.Image, left: int, upper: int):
    """Return the bars of a crate around an image, and their place."""
    rim = round(0.06 * max(around.size))
    width, height = around.width + 2 * rim, around.height + 2 * rim
    image, step = Image.new("RGBA", (width, height)), width // rng.randint(5, 8)
    draw, colour = ImageDraw.Draw(image), vary(rng, ((60, 62, 70), (150, 110, 70), (190, 190, 196)))
    draw.rectangle((0, 0, width - 1, height - 1), outline=colour, width=max(2, rim // 2))
    for x in range(step, width, step):
        draw.line((x, 0, x, height), fill=colour, width=max(2, rim // 5))
    return image, left - rim, upper - rim


def _thing(rng: Random, size: tuple[int, int], share: float, low: bool = False) -> Layer:
    """Return some other thing; its size is at most about `share` of the picture's smaller side."""
    name = rng.choice(list(THINGS))
    pen = Pen(rng, rng.uniform(0.5, 1) * share * min(size), rng.gauss(0, 8), rng.random() < 0.5)
    pen.colours |= {"first": hue(rng, 0.55, 0.75), "second": hue(rng, 0.3, 0.9)}
    pen.colours |= {"leaf": vary(rng, [(70, 130, 60)], 24), "coffee": (88, 56, 36)}
    pen.draw(THINGS[name])
    image = pen.finish()
    left = rng.uniform(-0.3, 1) * (size[0] - image.width * 0.4)
    upper = rng.uniform(0.72 if low else 0.3, 0.95) * size[1] - image.height / 2
    return Layer(image, round(left), round(upper), name)
