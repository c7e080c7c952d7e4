"""The package astrometry as a process of its own: a question as JSON on stdin, WCS keywords or null on stdout.

A search in the package returns to Python only where a match comes up, so only a process can be stopped in time.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["answer", "main"]

LOG_ODDS = 21.0  # one chance in 10^9


def answer(question: dict[str, Any]) -> dict[str, float] | None:
    """WCS keywords of the first good match.

    Parameters
    ----------
    question : dict
        stars: list of (x, y) in pixel, 0-based, brightest first; files: index files; scale: least and largest
        arcsec per pixel; place: RA, Dec, radius (degree) or None.

    Returns
    -------
    dict of float or None
        CRVAL, CRPIX and CD of a TAN projection; given 0-based positions, the package counts its reference
        pixel from 0 as well. None where nothing matches.
    """
    import astrometry

    if not hasattr(astrometry, "Solver"):  # astrometry.net's own Python package has the name as well
        raise SystemExit(f"{astrometry.__path__[0]} is another package: pip install 'starledger[blind]'")
    parameters = astrometry.SolutionParameters(
        output_logodds_threshold=LOG_ODDS,
        sip_order=0,
        tune_up_logodds_threshold=None,
        logodds_callback=lambda odds: astrometry.Action.STOP if odds[0] > 2.0 * LOG_ODDS else astrometry.Action.CONTINUE,
    )
    place = None if question["place"] is None else astrometry.PositionHint(*question["place"])
    with astrometry.Solver([Path(path) for path in question["files"]]) as solver:
        solution = solver.solve(question["stars"], astrometry.SizeHint(*question["scale"]), place, parameters)
    if not solution.has_match():
        return None
    fields = solution.best_match().wcs_fields
    return {key: float(fields[key][0]) for key in ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")}


def main() -> None:
    """Answer the question on stdin."""
    json.dump(answer(json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
