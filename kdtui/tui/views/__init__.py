"""What the screens display, as values: rows, lines and panels of runs, independent of widgets."""
