"""Licences as catalogues spell them, and the release that photos are from."""

import re


def release_of(photos) -> str:
    """Return the release that the photos of images.csv are from."""
    return next(iter(photos["Release"]), "") or "v4"


def licence(url: str) -> tuple[str, str]:
    """Return a licence's short name, or its address, and its identifier on the Hugging Face Hub.

    >>> licence("https://creativecommons.org/licenses/by/2.0/")
    ('CC BY 2.0', 'cc-by-2.0')
    >>> licence("https://opensource.org/license/mit")
    ('https://opensource.org/license/mit', 'mit')
    >>> licence("https://example.org/mine")
    ('https://example.org/mine', 'other')
    """
    if match := re.search(r"creativecommons\.org/licenses/([a-z-]+)/([0-9.]+)", url):
        return f"CC {match[1].upper()} {match[2]}", f"cc-{match[1]}-{match[2]}"
    match = re.search(r"opensource\.org/licenses?/(mit|apache-2\.0|bsd-3-clause)\b", url)
    return url, match[1] if match else "other"
