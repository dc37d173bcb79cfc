"""Collaborative documents: Y.js updates, presence, and saving."""
