"""Comparisons: rounds of two sides in turns, saved, and judged by paired ratios."""
