"""Codes as small files: entropy models in integers, an entropy coder over them, and the file format `.bvq`.

The format is told byte by byte in docs/format.md; `reference.py` is a decoder in plain Python that says the same.
"""
