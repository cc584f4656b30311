"""Families of generative models at equal training FLOPs, on one trunk."""
