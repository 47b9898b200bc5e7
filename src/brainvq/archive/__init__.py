"""Scans as small files (`.bvq`) and back: a tokenizer with an entropy model of its codes."""
