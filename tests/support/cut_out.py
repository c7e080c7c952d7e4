"""Small frames cut out of real ones around a star, with a few stars in them and the others painted over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

__all__ = ["RADIUS", "cut_out", "write_catalogue"]

#: Pixels around a star that stay as they are.
RADIUS = 6.0


def cut_out(raw: Path, to: Path, x: np.ndarray, y: np.ndarray, half: int, pointing: tuple[float, float]) -> Path:
    """Cut a square of 2 half + 1 pixels out of a raw frame.

    Parameters
    ----------
    raw, to : Path
        The frame, and the folder that gets the cut-out under the same name.
    x, y : float64, shape (n,)
        Stars that stay (pixel of the raw frame), the middle one first; everything else becomes sky, drawn from the sky's own pixels.
    half : int
        Half the side (pixel).
    pointing : (float, float)
        Right ascension and declination (deg) that the header is to have.
    """
    with fits.open(raw) as file:
        data, header = file[0].data, file[0].header
        x0, y0 = (round(float(values[0])) - half for values in (x, y))
        cut = data[y0 : y0 + 2 * half + 1, x0 : x0 + 2 * half + 1].copy()
    assert cut.shape == (2 * half + 1, 2 * half + 1), f"{raw.name}: the cut-out is beyond the edge"
    rows, columns = np.indices(cut.shape)
    kept = np.zeros(cut.shape, dtype=bool)
    for at_x, at_y in zip(x - x0, y - y0, strict=True):
        kept |= np.hypot(columns - at_x, rows - at_y) < RADIUS
    middle = np.median(cut)
    noise = 1.4826 * np.median(np.abs(cut - middle))
    sky = cut[~kept & (np.abs(cut - middle) < 3.0 * noise)]
    cut[~kept] = np.random.default_rng(int(cut.sum())).choice(sky, int((~kept).sum()))
    header["RA"], header["DEC"] = pointing
    fits.PrimaryHDU(cut, header).writeto(to / raw.name)
    return to / raw.name


def write_catalogue(path: Path, ra: np.ndarray, dec: np.ndarray, mag: np.ndarray) -> Path:
    """Write stars as a catalogue with magnitudes in G."""
    Table({"ra": ra, "dec": dec, "G": mag}).write(path, format="ascii.ecsv")
    return path
