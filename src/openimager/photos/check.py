"""Tell photos from placeholders, other photos and broken files."""

import hashlib
import io
import re
from base64 import b64encode
from typing import NamedTuple

from PIL import GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

MOST_PIXELS = 89_478_485  # Pillow's own bound against decompression bombs
HEAD = 12  # bytes at the beginning that tell the format
NO_PHOTO = "not a photo"
DAMAGED = "does not decode to its end"
PLACEHOLDER = "Flickr's placeholder for a deleted photo"
PLACEHOLDER_PATH = "photo_unavailable"
_PLACEHOLDER_SIZE, _PLACEHOLDER_MD5 = 2051, "880a7a58e05d3e83797f27573bb6d35c"

# The formats that browsers show, and Pillow's reader of each, because Image.open() would warn of
# large pictures before their size can be checked.
_FORMATS = {
    "JPEG": (re.compile(rb"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    "GIF": (re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile),
    "WebP": (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
}


class Look(NamedTuple):
    """The result of a check."""

    width: int = 0  # in pixels as stored, whatever EXIF says
    height: int = 0
    fault: str = ""  # what is wrong; empty for a whole photo
    known: bool = False  # whether the MD5 is the recorded one


def look(
    data: bytes,
    size: int | None = None,
    md5: str | None = None,
    etag: str = "",
    most_pixels: int = MOST_PIXELS,
    framed: bool = True,
) -> Look:
    """Check that `data` is a whole photo and, as far as recorded, the right one.

    A photo is a JPEG that decodes to its last row. If `data` has the recorded MD5, or the ETag is
    its MD5, only its header is read. PNG, GIF and WebP, which Flickr keeps as originals, are
    accepted with the recorded MD5. `size` and `md5` are OriginalSize and OriginalMD5. A response
    with neither Content-Length nor chunks is not `framed`: it may have ended too early, so what
    does not decode is reported as `DAMAGED`, not as another photo.
    """
    etag = etag.strip('"').lower() if re.fullmatch(r'"[0-9a-fA-F]{32}"', etag) else ""
    digest = b""
    if md5 or etag or len(data) == _PLACEHOLDER_SIZE:
        digest = hashlib.md5(data, usedforsecurity=False).digest()
    same_size = size in (None, len(data))
    same_md5 = md5 in (None, b64encode(digest).decode())
    known = bool(md5) and same_size and same_md5
    if digest.hex() == _PLACEHOLDER_MD5 and not known:
        return Look(fault=PLACEHOLDER)
    short = not framed and size is not None and len(data) < size
    proven = known or (bool(etag) and etag == digest.hex())
    width, height, fault = _decode(data, most_pixels, known or short, not proven)
    if not framed and fault in (NO_PHOTO, DAMAGED):
        fault = DAMAGED
    elif not same_size:
        fault = f"another photo: {len(data):,} bytes, not the {size:,} recorded"
    elif not same_md5:
        fault = "another photo: its MD5 is not the one recorded"
    return Look(width, height, fault, known)


def _decode(data: bytes, most_pixels: int, any_format: bool, to_the_end: bool):
    """Return width, height and what is wrong."""
    kind = format_of(data[:HEAD])
    if not kind:
        return 0, 0, NO_PHOTO
    if kind != "JPEG" and not any_format:
        return 0, 0, f"not a JPEG but a {kind}"
    # Pillow raises nearly anything on files that were made to break it.
    try:
        with _FORMATS[kind][1](io.BytesIO(data)) as image:
            width, height = image.size
            if width * height > most_pixels:
                return 0, 0, f"too many pixels: {width:,} x {height:,}"
            if to_the_end:
                # Decoding at an eighth of the size and in grey takes half the time, and the decoder
                # still has to read the last block of the last row.
                image.decodermaxblock = len(data)
                image.draft("L", (max(1, width // 8), max(1, height // 8)))
                image.load()
    except Exception:
        return 0, 0, DAMAGED
    return width, height, ""


def format_of(head: bytes) -> str:
    """Return the format that the first `HEAD` bytes announce; empty if it is none of ours."""
    return next((name for name, (begin, _) in _FORMATS.items() if begin.match(head)), "")
