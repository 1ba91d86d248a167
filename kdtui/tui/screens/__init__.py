"""The screens of the cockpit."""
