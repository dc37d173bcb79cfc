"""Starts real parts: Redis topologies, workers and the fake provider, under a guardian."""
