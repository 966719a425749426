"""The Quilt package: what is in it, its cards, and how its bytes get into a registry."""
