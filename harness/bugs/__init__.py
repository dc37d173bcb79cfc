"""Real bugs, shown: found by name or number, run on their sides, counted in a track record."""
