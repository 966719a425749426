"""Where the subjects stand: a room, a lawn, a street, a table, or something out of focus.

Drawn at half the size and enlarged: four times faster, and a little out of focus.
"""

from random import Random

from PIL import Image, ImageDraw, ImageFilter

from openimager.drawn.pen import BLACK, hue, shade, vary


def _canvas(size: tuple[int, int], colour) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", ((size[0] + 1) // 2, (size[1] + 1) // 2), colour)
    return image, ImageDraw.Draw(image)


def _enlarged(image: Image.Image, size: tuple[int, int], blur: float = 0) -> Image.Image:
    if blur:
        image = image.filter(ImageFilter.BoxBlur(blur))
    return image.resize(size, Image.Resampling.BILINEAR)


def _fade(draw: ImageDraw.ImageDraw, box, upper, lower) -> None:
    """Fill the box with a colour that goes from `upper` to `lower`."""
    left, top, right, bottom = (round(edge) for edge in box)
    for y in range(top, bottom, 2):
        share = (y - top) / max(1, bottom - top)
        colour = tuple(round(a + (b - a) * share) for a, b in zip(upper, lower, strict=True))
        draw.rectangle((left, y, right, y + 1), fill=colour)


def _room(rng: Random, size: tuple[int, int]) -> Image.Image:
    wall, floor = hue(rng, 0.3, 0.75), hue(rng, 0.35, 0.55)
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
            draw.ellipse((x - r, y - r / 4, x + r, y + r / 4), fill=hue(rng, 0.5, 0.7))
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
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=hue(rng, 0.5, 0.95))
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
        door = hue(rng, 0.6, 0.5)
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
    top = hue(rng, 0.45, 0.7) if rng.random() < 0.5 else vary(rng, (150, 106, 70), 40)
    _fade(draw, (0, line, width, height), shade(top, -0.15), top)
    kind, step = rng.choice(("planks", "checks", "plain", "stripes")), rng.randint(14, 34)
    if kind == "planks":
        for y in range(line, height, step):
            draw.line((0, y, width, y), fill=shade(top, -0.35))
            for _ in range(4):
                x, long = rng.uniform(-0.2, 1) * width, rng.uniform(0.1, 0.4) * width
                draw.line((x, y + step / 2, x + long, y + step / 2 + 2), fill=shade(top, -0.16))
    elif kind != "plain":
        tone = rng.choice((shade(top, 0.5), hue(rng, 0.5, 0.8)))
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
        plate = hue(rng, 0.1, 0.95)
        draw.ellipse((x - r, y - r * 0.42, x + r, y + r * 0.42), fill=shade(plate, -0.25))
        draw.ellipse((x - r, y - r * 0.45, x + r, y + r * 0.38), fill=plate)
        draw.ellipse(
            (x - r * 0.7, y - r * 0.3, x + r * 0.7, y + r * 0.24), fill=shade(plate, -0.08)
        )
    return _enlarged(image, size)


def _blur(rng: Random, size: tuple[int, int]) -> Image.Image:
    image, draw = _canvas(size, BLACK)
    width, height = image.size
    _fade(draw, (0, 0, width, height), hue(rng, 0.4, 0.6), hue(rng, 0.4, 0.6))
    for _ in range(rng.randint(6, 22)):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.02, 0.18) * width
        draw.ellipse((x - r, y - r, x + r, y + r), fill=hue(rng, 0.5, 0.75))
    return _enlarged(image, size, rng.uniform(3, 9))


BACKGROUNDS = {"room": _room, "lawn": _lawn, "street": _street, "table": _table, "blur": _blur}
