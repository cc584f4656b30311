"""Command-line tools, described by python -m diffjax.tools.<name> --help."""
