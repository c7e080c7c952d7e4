"""Numerics of detection and astrometry."""
