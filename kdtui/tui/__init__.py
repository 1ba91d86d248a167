"""The cockpit: a face over the run store, live in the terminal. It knows no torch."""
