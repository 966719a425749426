"""Where a photo can be had: from Flickr, from CVDF's mirror, as a thumbnail, by a template."""

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from openimager import metadata
from openimager.errors import BadInput
from openimager.web.politeness import registered_domain

DEFAULT = ("flickr", "cvdf")
NAMES = ("flickr", "cvdf", "thumbnail")

_FLICKR = ("staticflickr.com", "flickr.com")


@dataclass(slots=True)
class Source:
    """One place to ask for one photo.

    Attributes
    ----------
    name : str
        ``"flickr"``, ``"cvdf"``, ``"thumbnail"`` or the template.
    address : str
        As the table has it, perhaps relative: what a verdict is remembered by.
    url : str
        Absolute; empty if the address leads to nothing that is http or https.
    size : int, optional
        The bytes that it must have.
    md5 : str, optional
        The MD5 that it must have, base64 of the 16 bytes.
    """

    name: str
    address: str
    url: str
    size: int | None = None
    md5: str | None = None


def checked(source: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Return the sources as a tuple; None stays None and stands for `DEFAULT`.

    Raises
    ------
    BadInput
        If one is neither a name nor a template of V4 columns.

    Examples
    --------
    >>> checked("https://host/{Subset}/{ImageID}.jpg")
    ('https://host/{Subset}/{ImageID}.jpg',)
    """
    if source is None:
        return None
    sources = (source,) if isinstance(source, str) else tuple(source)
    for one in sources:
        if one not in NAMES:
            _check_template(one)
    if not sources:
        raise BadInput(f"No source is given. Allowed: {', '.join(NAMES)} or a template.")
    return tuple(dict.fromkeys(sources))


def of_photo(row: Mapping, sources: Sequence[str] | None, base_url: str) -> list[Source]:
    """Return the places to ask for a photo, in order.

    CVDF mirrors what Open Images took from Flickr. By default it is therefore not asked for a
    photo whose OriginalURL is elsewhere, as in the drawn sample or a site of one's own; where
    ``"cvdf"`` was asked for by name, it is asked for every photo.

    Parameters
    ----------
    row : mapping
        A row of the table of photos.
    sources : sequence of str, optional
        As `checked` returns them.
    base_url : str
        What relative addresses are resolved against.

    Examples
    --------
    >>> row = dict.fromkeys(metadata.PHOTO_COLUMNS, "")
    >>> row |= {"ImageID": "0" * 16, "OriginalURL": "../photos/a_o.jpg", "OriginalSize": 7}
    >>> of_photo(row, None, "https://host/2018_04/")
    [Source(name='flickr', address='../photos/a_o.jpg', url='https://host/photos/a_o.jpg',
            size=7, md5=None)]
    """
    found = []
    for name in sources or DEFAULT:
        if name == "flickr":
            size, md5 = row["OriginalSize"], row["OriginalMD5"]
            address = text(row["OriginalURL"])
            source = Source(name, address, absolute(address, base_url), size_of(size), text(md5))
            source.md5 = source.md5 or None
        elif name == "thumbnail":
            address = text(row["Thumbnail300KURL"])
            source = Source(name, address, absolute(address, base_url))
        elif name == "cvdf":
            if sources is None and not _is_flickr(found[0].url):
                continue
            address = _expand(metadata.CVDF_URL, row)
            source = Source(name, address, absolute(address, base_url))
        else:
            address = _expand(name, row)
            source = Source(name, address, absolute(address, base_url))
        found.append(source)
    return found


def absolute(address: str, base_url: str) -> str:
    """Resolve an address as a browser would; empty unless that is http or https with a host.

    Examples
    --------
    >>> absolute("../photos/a_o.jpg", "http://127.0.0.1:8000/2018_04/")
    'http://127.0.0.1:8000/photos/a_o.jpg'
    >>> absolute("file:///etc/passwd", "http://127.0.0.1:8000/2018_04/")
    ''
    """
    if not address:
        return ""
    try:
        url = urljoin(base_url, address)
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return ""
    return url if sound else ""


def is_relative(address: str) -> bool:
    """Tell whether an address needs a base URL to mean anything."""
    try:
        return bool(address) and not urlsplit(address).scheme
    except ValueError:
        return False


def size_of(value) -> int | None:
    """Return OriginalSize as an int; None where it is missing or makes no sense."""
    try:
        return int(value) if int(value) > 0 else None
    except (TypeError, ValueError):
        return None


def text(value) -> str:
    """Return a field of a table as text; empty where it is missing."""
    return value if isinstance(value, str) else ""


def _is_flickr(url: str) -> bool:
    return bool(url) and registered_domain(url) in _FLICKR


def _expand(template: str, row: Mapping) -> str:
    fields = {name for _, name, _, _ in string.Formatter().parse(template) if name}
    return template.format(**{name: quote(_plain(row[name]), safe="") for name in fields})


def _plain(value) -> str:
    return "" if value is None or value != value else str(value)


def _check_template(template: str) -> None:
    columns = ", ".join(metadata.PHOTO_COLUMNS)
    try:
        fields = [part[1:] for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise BadInput(f"The source '{template}' is no template: {error}.") from None
    if not template.lower().startswith(("http://", "https://")):
        raise BadInput(
            f"Unknown source '{template}'. Allowed: {', '.join(NAMES)}, or a URL with V4 columns "
            "in it, such as https://host/{Subset}/{ImageID}.jpg."
        )
    for name, form, conversion in fields:
        if name not in metadata.PHOTO_COLUMNS or form or conversion:
            raise BadInput(f"The source '{template}' has '{{{name}}}'. Allowed: {columns}.")
    if not fields:
        raise BadInput(
            f"The source '{template}' is the same address for every photo. Put columns into it, "
            f"such as {{ImageID}}. Allowed: {columns}."
        )
