"""Draws the sample: a small Open Images of drawn pictures with invented credits."""
