"""Widgets: they get their data by method calls and report by messages; none imports the app or a screen."""
