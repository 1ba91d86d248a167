"""Sweeps whose values are sampled by Optuna: trials in ranges and lists, pruned at equal epochs."""
