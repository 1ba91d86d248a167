"""What the screens show, as values: rows, lines and panels of runs, without a widget."""
