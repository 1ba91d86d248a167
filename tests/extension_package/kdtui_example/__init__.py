"""An extension of kdtui in a package of its own."""
