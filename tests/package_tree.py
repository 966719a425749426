"""Old name of `builders`; to be removed when no test imports it."""

from builders import IDS, METADATA, NAME, make_tree

__all__ = ["IDS", "METADATA", "NAME", "make_tree"]
