"""Trained networks of diffjax, one folder each; `diffjax.load("NAME")` reads them."""
