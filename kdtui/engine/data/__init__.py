"""Datasets behind one protocol."""
