"""Kernels: arrays in, arrays out; they see no file, session, clock or global."""
