"""Plate solution from star positions alone, by astrometry.net's index files.

Lang et al. (2010, AJ 139, 1782), through the PyPI package ``astrometry``. Its result is a start
like any other: `reduction.kernels.plate.solve` confirms and refines it against the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from reduction.kernels.wcs import PlateSolution

__all__ = ["DEFAULT_INDEX_DIR", "BlindResult", "solve_blind"]

FloatArray: TypeAlias = npt.NDArray[np.float64]

DEFAULT_INDEX_DIR = Path("/usr/share/astrometry")  # where Debian's astrometry-data-* packages put them
MAX_STARS = 100
MIN_STARS = 6
LOG_ODDS = 21.0  # one chance in 10^9


@dataclass(frozen=True)
class BlindResult:
    """What came of a blind search.

    Attributes
    ----------
    solution : PlateSolution or None
        Of order 1, good to some pixel; None where there is none.
    reason : str
        Empty on success, else why there is no solution, with what to do.
    """

    solution: PlateSolution | None
    reason: str = ""


def solve_blind(
    det_x: FloatArray,
    det_y: FloatArray,
    det_flux: FloatArray,
    shape: tuple[int, int],
    index_dir: Path | str,
    *,
    scale: float | None = None,
    scale_tolerance: float = 0.2,
    position: tuple[float, float] | None = None,
    position_radius: float = 10.0,
) -> BlindResult:
    """Solve a frame without knowing where it points.

    Parameters
    ----------
    det_x, det_y, det_flux : (n,) float64
        Detections: position (pixel) and flux (any unit); the hundred brightest are used.
    shape : (int, int)
        (ny, nx) of the frame.
    index_dir : Path or str
        Directory of astrometry.net index files (``index-*.fits``).
    scale : float, optional
        Arcsec per pixel; 0.1 to 1000 when omitted, which is slow.
    scale_tolerance : float
        Largest relative error of `scale`.
    position, position_radius : (float, float), float
        RA and Dec, and the radius around them to search (degree); the whole sky when omitted.

    Returns
    -------
    BlindResult
    """
    files = sorted(Path(index_dir).glob("index-*.fits"))
    if not files:
        return BlindResult(
            None, f"no index files in {index_dir}: install Debian's astrometry-data-tycho2, or name the directory that holds them"
        )
    good = np.flatnonzero(np.isfinite(det_x) & np.isfinite(det_y) & np.isfinite(det_flux))
    if len(good) < MIN_STARS:
        return BlindResult(None, f"{len(good)} stars detected, at least {MIN_STARS} are needed")
    brightest = good[np.lexsort((det_x[good], det_y[good], -det_flux[good]))][:MAX_STARS]
    try:
        import astrometry  # heavy, and needed for this one start only
    except ImportError:
        return BlindResult(None, "the package astrometry is not installed: pip install astrometry")
    fields = _run(astrometry, files, np.column_stack([det_x, det_y])[brightest], scale, scale_tolerance, position, position_radius)
    if fields is None:
        return BlindResult(None, f"the {len(brightest)} brightest stars match nothing in {len(files)} index files of {index_dir}")
    return BlindResult(_from_fields(fields, (shape[1], shape[0])))


def _run(
    astrometry: Any,
    files: list[Path],
    stars: FloatArray,
    scale: float | None,
    tolerance: float,
    position: tuple[float, float] | None,
    radius: float,
) -> dict[str, Any] | None:
    """WCS keywords of the first good match."""
    size_hint = None
    if scale is not None:
        size_hint = astrometry.SizeHint(scale / (1.0 + tolerance), scale * (1.0 + tolerance))
    position_hint = None
    if position is not None:
        position_hint = astrometry.PositionHint(position[0] % 360.0, position[1], radius)
    parameters = astrometry.SolutionParameters(
        output_logodds_threshold=LOG_ODDS,
        sip_order=0,
        tune_up_logodds_threshold=None,
        logodds_callback=lambda odds: astrometry.Action.STOP if odds[0] > 2.0 * LOG_ODDS else astrometry.Action.CONTINUE,
    )
    with astrometry.Solver(files) as solver:
        solution = solver.solve(stars, size_hint, position_hint, parameters)
    if not solution.has_match():
        return None
    return {key: value[0] for key, value in solution.best_match().wcs_fields.items()}


def _from_fields(fields: dict[str, Any], size: tuple[int, int]) -> PlateSolution:
    """Linear terms of a FITS TAN solution."""
    cd = np.array([[fields["CD1_1"], fields["CD1_2"]], [fields["CD2_1"], fields["CD2_2"]]], dtype=np.float64)
    slope = np.linalg.inv(cd)
    return PlateSolution(
        float(fields["CRVAL1"]),
        float(fields["CRVAL2"]),
        1,
        # given 0-based positions, the solver counts its reference pixel from 0 as well
        (float(fields["CRPIX1"]), float(slope[0, 0]), float(slope[0, 1])),
        (float(fields["CRPIX2"]), float(slope[1, 0]), float(slope[1, 1])),
        *size,
    )
