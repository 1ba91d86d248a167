"""Supervised and distillation losses."""
