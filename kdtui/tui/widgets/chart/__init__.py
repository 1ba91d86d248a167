"""Charts of text: curves in Braille dots, scatter plots, and what they are drawn with."""
