"""Runs: train a run in a folder, and load trained networks."""
