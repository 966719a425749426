"""What a Quilt package holds and how its bytes get into a registry, in a folder or in S3."""
