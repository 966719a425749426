"""Sources of each photo: Flickr, CVDF's mirror, thumbnails, or a URL template."""

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

from openimager.errors import BadInput
from openimager.photos.pace import Pace, registered_domain
from openimager.store import PHOTO_COLUMNS
from openimager.tables.catalogue import CVDF_URL, is_directory

NAMES = ("flickr", "cvdf", "thumbnail")
DEFAULT = ("flickr", "cvdf")
FLICKR = ("staticflickr.com", "flickr.com")
CHANGES = {
    "flickr": "none",
    "cvdf": "scaled down to at most 1,024 pixels (CVDF)",
    "thumbnail": "scaled down to a thumbnail (Flickr)",
}


@dataclass(slots=True)
class Source:
    """One source of one photo, and what it has answered so far."""

    name: str  # one of `NAMES`, or the template
    address: str  # as the table has it, perhaps relative: verdicts are recorded under it
    url: str  # an absolute http or https URL, or empty
    path: Path | None = None  # the file, if the address is relative and the site a directory
    size: int | None = None  # OriginalSize and OriginalMD5 (base64), which only originals have
    md5: str | None = None
    pace: Pace | None = None  # of the domain that the next try waits for
    moved: str = ""  # where a redirect led to a domain that waits
    tries: int = 0  # requests that failed
    refusals: int = 0  # and that were answered with 429
    later: float = 0.0  # when the next try may begin, on the monotonic clock
    error: str = ""  # why it did not deliver the photo
    gone: bool = False  # whether it will never have the photo
    done: bool = False  # whether it is not to be asked again in this run

    def settle(self, error: str, gone: bool) -> None:
        """Record that the source is not to be asked again in this run."""
        self.error, self.gone, self.done = error, gone, True


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


def of_photo(
    row: Mapping, sources: Sequence[str] | None, base: str, flickr: Sequence[str] = FLICKR
) -> list[Source]:
    """Return the sources of a photo, in order.

    CVDF mirrors what Open Images took from Flickr. By default it is therefore not asked for a
    photo whose OriginalURL is elsewhere, as in the drawn sample or a site of one's own.

    Parameters
    ----------
    row : mapping
        A row of the table of photos.
    sources : sequence of str, optional
        As `checked` returns them.
    base : str
        URL or directory that relative addresses are resolved against.
    flickr : sequence of str
        Flickr's registered domains.

    Examples
    --------
    >>> row = dict.fromkeys(PHOTO_COLUMNS, "")
    >>> row |= {"ImageID": "0" * 16, "OriginalURL": "../photos/a_o.jpg", "OriginalSize": 7}
    >>> [source] = of_photo(row, None, "https://host/2018_04/")
    >>> source.name, source.url, source.size
    ('flickr', 'https://host/photos/a_o.jpg', 7)
    """
    found = []
    for name in sources or DEFAULT:
        size = md5 = path = None
        if name == "flickr":
            address = _text(row["OriginalURL"])
            size, md5 = _size(row["OriginalSize"]), _text(row["OriginalMD5"]) or None
        elif name == "thumbnail":
            address = _text(row["Thumbnail300KURL"])
        else:
            if sources is None and registered_domain(found[0].url) not in flickr:
                continue
            address = _expand(CVDF_URL if name == "cvdf" else name, row)
        if is_directory(base):
            path = _local(address, base)
        url = "" if path else absolute(address, "" if is_directory(base) else base)
        found.append(Source(name, address, url, path, size, md5))
    return found


def absolute(address: str, base: str = "") -> str:
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
        url = urljoin(base, address)
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return ""
    return url if sound else ""


def _local(address: str, base: str) -> Path | None:
    """Return the file of a relative address; whether it may be read is decided when it is."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    if not parts.path or parts.scheme or parts.netloc or "\0" in unquote(parts.path):
        return None
    return Path(base, unquote(parts.path))


def _size(value) -> int | None:
    try:
        return int(value) if int(value) > 0 else None
    except (TypeError, ValueError):
        return None


def _text(value) -> str:
    return value if isinstance(value, str) else ""


def _expand(template: str, row: Mapping) -> str:
    fields = {name for _, name, _, _ in string.Formatter().parse(template) if name}
    values = {name: str(row[name]) for name in fields}
    missing = ("None", "nan", "<NA>")
    return template.format(
        **{name: "" if text in missing else quote(text, safe="") for name, text in values.items()}
    )


def _check_template(template: str) -> None:
    columns = ", ".join(PHOTO_COLUMNS)
    try:
        fields = [part[1:] for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise BadInput(f"The source '{template}' is not a valid template: {error}.") from None
    if not template.lower().startswith(("http://", "https://")):
        raise BadInput(
            f"Unknown source '{template}'. Allowed: {', '.join(NAMES)}, or a URL with V4 columns "
            "in it, such as https://host/{Subset}/{ImageID}.jpg."
        )
    for name, form, conversion in fields:
        if name not in PHOTO_COLUMNS or form or conversion:
            raise BadInput(f"The source '{template}' has '{{{name}}}'. Allowed: {columns}.")
    if not fields:
        raise BadInput(
            f"The source '{template}' is the same address for every photo. Put columns into it, "
            f"such as {{ImageID}}. Allowed: {columns}."
        )
