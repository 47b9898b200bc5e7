"""Quantizers, one idea a file, all under the contract of `base.py`."""
