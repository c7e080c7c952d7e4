"""Numerics of catalogues: identifiers, colours, pieces of sky."""
