"""The only wing that knows torch. Its one door is ``python -m kdtui.engine VERB``."""
