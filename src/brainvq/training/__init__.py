"""Training: `loop.py` owns time, the tasks own gradients."""
