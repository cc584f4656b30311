"""Runs: train one in a folder, load what was trained."""
