"""From boxes to labelled folders: geometry, cutting, near-duplicates, parting, tables."""
