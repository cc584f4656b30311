"""Tools: python -m diffjax.tools.<name> --help."""
