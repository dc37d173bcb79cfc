"""Capacity planning: how throughput grows with load, and where it stops."""
