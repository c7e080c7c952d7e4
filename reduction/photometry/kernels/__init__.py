"""Numerics of the photometry."""
