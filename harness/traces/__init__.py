"""Traces of a run: which requests have one, and what becomes of the spans that workers send."""
