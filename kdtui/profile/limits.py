"""Limits that are used without importing pydantic."""

MOST_EPOCHS = 100_000
"""Maximum number of epochs of a run, to catch typing errors."""
