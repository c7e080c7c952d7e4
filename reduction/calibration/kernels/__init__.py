"""Numerics of the calibration."""
