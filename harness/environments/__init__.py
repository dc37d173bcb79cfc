"""Cached environments: what a target's workers are run with, made once by pip or uv."""
