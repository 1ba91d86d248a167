"""The cockpit: a terminal user interface for the run store. It does not import torch."""
