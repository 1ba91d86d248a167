"""Charts drawn with text: line charts in braille, scatter plots, and their parts."""
