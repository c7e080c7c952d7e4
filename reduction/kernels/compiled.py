"""The robust scatter for compiled code: the very functions of `robust`, which stays free of numba for whoever needs no compiler."""

from __future__ import annotations

from numba import njit

from reduction.kernels import robust

__all__ = ["scatter_about"]

scatter_about = njit(cache=True)(robust.scatter_about)
