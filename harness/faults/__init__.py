"""Faults on a timeline, aimed at roles; one file per family."""
