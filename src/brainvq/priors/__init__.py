"""Priors: distributions over codes, from which new ones are sampled, under the contract of `base.py`."""
