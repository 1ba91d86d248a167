"""Bounds that both faces know, without the tables and their pydantic."""

MOST_EPOCHS = 100_000
"""Epochs of a run, and of any horizon it is given later; nobody means more."""
