"""The run folder: paths, events, curves and the state derived from them."""
