"""Detached processes: the supervisor, device slots, and who is alive."""
