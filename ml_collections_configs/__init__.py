"""Experiment configs: one file each; the docstring says command, hardware, time and result."""
