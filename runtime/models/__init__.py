"""Providers, their model lists, and the cache of them."""
