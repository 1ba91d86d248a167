"""The search for the best student within a budget of latency, parameters and bytes."""
