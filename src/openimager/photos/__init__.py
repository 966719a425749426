"""Photos: where to get them, how fast to ask, whether they are whole, and the run that does it."""
