"""kdtui: the terminal cockpit for knowledge distillation of segmentation models."""

__version__ = "0.1.0"
