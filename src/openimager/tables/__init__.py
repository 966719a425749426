"""Open Images as published: its releases, the cache of its tables, its categories."""
