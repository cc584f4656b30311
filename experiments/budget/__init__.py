"""Distance of samples against images seen, on the device that is here."""
