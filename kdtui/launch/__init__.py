"""Detached processes: launchers, the supervisor, device slots, and process liveness."""
