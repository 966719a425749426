"""What is a photo, and what only stands in its place."""

import hashlib
import os
import re
import threading
from base64 import b64encode
from typing import NamedTuple

from PIL import GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

MOST_PIXELS = 89_478_485
"""Width times height of what is decoded: Pillow's own bound on what is no decompression bomb."""

HEAD = 12
NO_PHOTO = "no photo"
DAMAGED = "does not decode to its end"
PLACEHOLDER = "Flickr's placeholder for a deleted photo"

# The formats that browsers show, and Pillow's reader of each. Image.open() is not asked because
# it warns of large pictures, for each of them, before their size can be looked at.
_FORMATS = {
    "JPEG": (re.compile(rb"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    "GIF": (re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile),
    "WebP": (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
}

# Flickr's picture in place of a deleted photo: where it stands, and one known copy of it.
PLACEHOLDER_PATH = "photo_unavailable"
_PLACEHOLDER_SIZE = 2051
_PLACEHOLDER_MD5 = "880a7a58e05d3e83797f27573bb6d35c"

# Decoding is all CPU: more at once than there are cores only takes memory.
_decoding = threading.BoundedSemaphore(os.cpu_count() or 1)


class Look(NamedTuple):
    """What a look at a file found.

    Attributes
    ----------
    width, height : int
        In pixels as stored, whatever EXIF says.
    size : int
        In bytes.
    fault : str
        What is wrong, in a few words; empty if nothing is.
    known : bool
        Whether size and MD5 are those that the table records.
    """

    width: int = 0
    height: int = 0
    size: int = 0
    fault: str = ""
    known: bool = False


def judge(
    path: str | os.PathLike,
    size: int | None = None,
    md5: str | None = None,
    most_pixels: int = MOST_PIXELS,
    digest: bytes | None = None,
    whole: bool = True,
) -> Look:
    """Say whether a file is a photo and, where the table says more, the one that it means.

    A photo is a JPEG that decodes to its last row. PNG, GIF and WebP, which browsers show too
    and Flickr keeps as originals, are taken where the MD5 says that it is the very photo.

    Parameters
    ----------
    path : path-like
    size, md5 : int and str, optional
        OriginalSize and OriginalMD5, as far as they are recorded.
    most_pixels : int
        Width times height of what may be decoded.
    digest : bytes, optional
        The MD5 of the file, where it has been taken already.
    whole : bool
        Whether the file is known to have arrived whole. If it is not, one that breaks off is no
        other photo but perhaps a part of this one: its fault is then `DAMAGED`.

    Returns
    -------
    Look
    """
    found = os.path.getsize(path)
    if digest is None:
        with open(path, "rb") as stream:
            digest = hashlib.file_digest(
                stream, lambda: hashlib.md5(usedforsecurity=False)
            ).digest()
    same_size = size in (None, found)
    same_md5 = md5 in (None, b64encode(digest).decode())
    known = same_size and same_md5 and md5 is not None
    if not known and found != size and is_placeholder(found, digest.hex()):
        return Look(size=found, fault=PLACEHOLDER)
    short = not whole and size is not None and found < size
    width, height, fault = decode(path, most_pixels, any_format=known or short)
    if not whole and fault in (NO_PHOTO, DAMAGED):
        fault = DAMAGED
    elif not same_size:
        fault = f"another photo: {found:,} bytes, not the {size:,} recorded"
    elif not same_md5:
        fault = "another photo: its MD5 is not the one recorded"
    return Look(width, height, found, fault, known)


def _md5():
    return hashlib.md5(usedforsecurity=False)


def decode(
    path: str | os.PathLike, most_pixels: int, any_format: bool = False
) -> tuple[int, int, str]:
    """Decode a photo to its last row.

    A JPEG is decoded to an eighth of its size, and its brightness alone: that takes half the time,
    yet the decoder still has to read the last block of the last row.

    Parameters
    ----------
    path : path-like
    most_pixels : int
        Width times height of what may be decoded.
    any_format : bool
        Take PNG, GIF and WebP too, because the file is known to be the photo.

    Returns
    -------
    width, height : int
        In pixels as stored, whatever EXIF says.
    fault : str
        What is wrong with it; empty if nothing is.
    """
    with open(path, "rb") as stream:
        kind = format_of(stream.read(HEAD))
        stream.seek(0)
        if not kind:
            return 0, 0, NO_PHOTO
        if kind != "JPEG" and not any_format:
            return 0, 0, f"no JPEG but a {kind}"
        # Pillow raises nearly anything on what was made to break it.
        try:
            with _decoding, _FORMATS[kind][1](stream) as image:
                width, height = image.size
                if width * height > most_pixels:
                    return 0, 0, f"too many pixels: {width:,} x {height:,}"
                image.draft("L", (max(1, width // 8), max(1, height // 8)))
                image.load()
        except Exception:
            return 0, 0, DAMAGED
    return width, height, ""


def is_placeholder(size: int, md5: str) -> bool:
    """Tell whether bytes are Flickr's picture in place of a deleted photo.

    Parameters
    ----------
    size : int
        In bytes.
    md5 : str
        In hex.

    Examples
    --------
    >>> is_placeholder(2051, "880a7a58e05d3e83797f27573bb6d35c")
    True
    """
    return size == _PLACEHOLDER_SIZE or md5 == _PLACEHOLDER_MD5


def format_of(head: bytes) -> str:
    """Return the format that a file's first `HEAD` bytes announce; empty if none of ours."""
    return next((name for name, (begin, _) in _FORMATS.items() if begin.match(head)), "")
