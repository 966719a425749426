"""Names of licences and releases, as catalogues spell them."""

import re

RELEASES = {
    **{f"v{n}": f"Open Images V{n}" for n in (4, 5, 6, 7)},
    "sample": "the drawn sample of openimager",
}


def release_of(photos) -> str:
    """Return the release that the photos of images.csv are from."""
    return next(iter(photos.get("Release", [])), "") or "v4"


def licence_name(url: str) -> str:
    """Return the short name of a licence, or its address where the name is not known.

    Examples
    --------
    >>> licence_name("https://creativecommons.org/licenses/by/2.0/")
    'CC BY 2.0'
    >>> licence_name("https://example.org/mine")
    'https://example.org/mine'
    """
    match = _creative_commons(url)
    return f"CC {match[1].upper()} {match[2]}" if match else url


def licence_id(url: str) -> str:
    """Return the identifier that the Hugging Face Hub has for a licence.

    Examples
    --------
    >>> licence_id("https://creativecommons.org/licenses/by/2.0/")
    'cc-by-2.0'
    >>> licence_id("https://opensource.org/license/mit"), licence_id("https://example.org/mine")
    ('mit', 'other')
    """
    if match := _creative_commons(url):
        return f"cc-{match[1]}-{match[2]}"
    match = re.search(r"opensource\.org/licenses?/(mit|apache-2\.0|bsd-3-clause)\b", url)
    return match[1] if match else "other"


def _creative_commons(url: str) -> re.Match | None:
    return re.search(r"creativecommons\.org/licenses/([a-z-]+)/([0-9.]+)", url)
