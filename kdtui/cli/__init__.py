"""The command line: a face over the store, the launchers and the engine's door."""
