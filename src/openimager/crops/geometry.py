"""From fractions of a photo to the upright picture of one box."""

import math

from PIL import Image

from openimager.errors import BadInput
from openimager.store import ROTATIONS

_ORIGINAL = 4_000_000  # pixels; a photo with as many is assumed to be a camera's original


def box_to_pixels(box, width: int, height: int, padding: float = 0) -> tuple[int, int, int, int]:
    """Return the smallest whole-pixel rectangle that covers a box, in a photo of this size.

    `box` is XMin, XMax, YMin, YMax as fractions of the stored photo, y down; BadInput if a number
    is missing or a Min is above its Max. The box grows on each side by `padding` times its width
    and height. The result is Pillow's (left, upper, right, lower), inside the photo and at least
    one pixel wide and high.

    Examples
    --------
    >>> box_to_pixels((0.25, 0.5, 0.1, 0.96), width=10, height=10)
    (2, 1, 5, 10)
    """
    x_min, x_max, y_min, y_max = box = tuple(map(float, box))
    if not all(map(math.isfinite, box)) or x_min > x_max or y_min > y_max:
        raise BadInput(
            f"The box (XMin, XMax, YMin, YMax) = {box} is not one: "
            "four numbers are needed, each Min at most its Max."
        )
    if width < 1 or height < 1:
        raise BadInput(f"A picture of {width} x {height} pixels has no pixels to crop.")
    left, right = _pixels(x_min, x_max, padding, width)
    upper, lower = _pixels(y_min, y_max, padding, height)
    return left, upper, right, lower


def _pixels(low: float, high: float, padding: float, side: int) -> tuple[int, int]:
    more = padding * (high - low)
    first = min(max(math.floor((low - more) * side), 0), side - 1)
    return first, max(min(math.ceil((high + more) * side), side), first + 1)


def rotate_box(box, rotation: float) -> tuple[float, float, float, float]:
    """Return where a box is after its photo was turned by `rotation` degrees counter-clockwise.

    `rotation` is 0, 90, 180 or 270. NaN (not recorded) counts as 0; others are BadInput.

    Examples
    --------
    >>> rotate_box((0.75, 1.0, 0.0, 0.5), 90)
    (0.0, 0.5, 0.0, 0.25)
    """
    x_min, x_max, y_min, y_max = map(float, box)
    return {
        0: (x_min, x_max, y_min, y_max),
        90: (y_min, y_max, 1 - x_max, 1 - x_min),
        180: (1 - x_max, 1 - x_min, 1 - y_max, 1 - y_min),
        270: (1 - y_max, 1 - y_min, x_min, x_max),
    }[_degrees(rotation)]


def upright(picture: Image.Image, rotation: float) -> Image.Image:
    """Turn a picture by `rotation` degrees counter-clockwise (0, 90, 180, 270; NaN is 0)."""
    degrees = _degrees(rotation)
    return picture.transpose(Image.Transpose[f"ROTATE_{degrees}"]) if degrees else picture


def decode(photo: Image.Image, scale: int = 1) -> Image.Image:
    """Decode an opened photo of any mode as RGB; EXIF is not applied.

    A JPEG is decoded at 1/`scale` of its size (1, 2, 4 or 8). Transparent parts become white, as
    they were to the people who drew the boxes.
    """
    photo.draft(None, (photo.width // scale, photo.height // scale))
    photo.load()
    if photo.mode.startswith("I;16"):
        return photo.point(lambda level: level / 256, "L").convert("RGB")
    if photo.has_transparency_data:
        white = Image.new("RGBA", photo.size, "white")
        return Image.alpha_composite(white, photo.convert("RGBA")).convert("RGB")
    return photo.convert("RGB")


def crop_box(
    picture: Image.Image,
    box,
    size: int | None = 128,
    rotation: float = 0,
    padding: float = 0,
    keep_aspect: bool = False,
    stored: tuple[int, int] | None = None,
) -> Image.Image:
    """Cut a box out of a photo, set it upright and bring it to its size.

    `picture` is the photo as stored (EXIF not applied), RGB; `box` and `rotation` are as for
    `rotate_box`, the options as for `openimager.write_crops`. Where `picture` was decoded at 1/2,
    1/4 or 1/8, `stored` is the (width, height) of the photo, to whose pixels the box is rounded.

    Examples
    --------
    >>> photo = Image.new("RGB", (40, 20))
    >>> crop_box(photo, (0, 0.5, 0, 1), size=None, rotation=90).size
    (20, 20)
    """
    stored = stored or picture.size
    pixels = box_to_pixels(box, *stored, padding)
    sides = {tuple(-(-side // n) for side in stored): n for n in (8, 4, 2, 1)}  # rounded up
    if picture.size not in sides:
        raise BadInput(f"{picture.size} is not 1/1, 1/2, 1/4 or 1/8 of a photo of {stored} pixels.")
    edges = [edge / sides[picture.size] for edge in pixels]
    # `resize(box=)` on the whole photo would let the filter reach beyond the box; after the cut it
    # sees only pixels that the box touches.
    left, upper = math.floor(edges[0]), math.floor(edges[1])
    cut = picture.crop((left, upper, math.ceil(edges[2]), math.ceil(edges[3])))
    if size is None:
        return upright(cut, rotation)
    within = (edges[0] - left, edges[1] - upper, edges[2] - left, edges[3] - upper)
    cut = cut.resize(_fitted(pixels, size, keep_aspect), Image.Resampling.BICUBIC, box=within)
    cut = upright(cut, rotation)
    square = Image.new("RGB", (size, size))
    square.paste(cut, ((size - cut.width) // 2, (size - cut.height) // 2))
    return square


def _fitted(pixels, size: int, keep_aspect: bool) -> tuple[int, int]:
    """Return (width, height) in pixels that a cut takes within a square of side `size`."""
    width, height = pixels[2] - pixels[0], pixels[3] - pixels[1]
    longer = max(width, height) if keep_aspect else None
    return tuple(max(1, round(side * size / (longer or side))) for side in (width, height))


def draft_scale(pixels, size: int | None, keep_aspect: bool, photo: tuple[int, int]) -> int:
    """Return the coarsest of 1, 2, 4, 8 at which a cut still has more pixels than it needs.

    Except at scale 1, it then has at least twice the needed pixels per side. If `photo` has the
    size of a camera's original, 1.5 times is enough (PSNR to a full decode 52 dB, not 55): such
    photos have little detail per pixel and take long to decode.
    """
    if size is None:
        return 1
    width, height = _fitted(pixels, size, keep_aspect)
    spare = 1.5 if photo[0] * photo[1] >= _ORIGINAL else 2
    room = min((pixels[2] - pixels[0]) / width, (pixels[3] - pixels[1]) / height) / spare
    return max(scale for scale in (1, 2, 4, 8) if scale <= max(room, 1))


def _degrees(rotation: float) -> int:
    degrees = 0 if math.isnan(rotation) else rotation
    if degrees not in ROTATIONS:
        raise BadInput(f"Rotation {rotation:g} is not one of 0, 90, 180 and 270 degrees.")
    return int(degrees)
