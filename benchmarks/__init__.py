"""Measurements behind the README's tables; each writes a JSON under results/."""
