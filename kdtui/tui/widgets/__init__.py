"""Widgets: each is given what it needs and answers by message; none imports the app or a screen."""
