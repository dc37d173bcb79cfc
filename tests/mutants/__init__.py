"""Deliberately broken runtimes: each patches one thing and must be caught by its scenario."""
