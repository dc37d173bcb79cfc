"""Toxiproxy and one link per worker and Redis node."""
