"""Numerics of magnitude fits and light curves."""
