"""Programs compiled ahead of time, from shapes alone, for devices that this machine lacks."""
