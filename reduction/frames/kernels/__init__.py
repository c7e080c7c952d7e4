"""Numerics of raw frames."""
