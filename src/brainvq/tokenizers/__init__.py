"""Tokenizers: images to codes and back, under the contract of `base.py`."""
