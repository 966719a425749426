"""Photos from the web: one request, one place to ask, one outcome, one pace for each domain."""
