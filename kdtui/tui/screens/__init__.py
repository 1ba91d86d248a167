"""The screens of the cockpit, one file each."""
