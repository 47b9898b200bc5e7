"""Measures of reconstructions and of codes. Each is defined once, here; `evaluate.py` only gathers them."""
