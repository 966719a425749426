"""The pictures of the sample: subjects, what is around them, and how they are photographed."""
