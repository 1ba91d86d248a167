"""Sweeps: runs of a profile over a grid of values; a repeated request makes only what is missing."""
