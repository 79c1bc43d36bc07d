"""Comparisons whose runs take as long as they say: on real lanes, one at a time."""
