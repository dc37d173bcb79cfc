"""Start a real deployment, break its Redis, load it, record everything, judge the record."""
