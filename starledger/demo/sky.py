"""The demo's stars, and what a catalogue says of them."""

from __future__ import annotations

from dataclasses import dataclass

import hpgeom
import numpy as np
from astropy.table import MaskedColumn, Table
from numpy.typing import NDArray

from starledger.demo.camera import Camera

__all__ = ["CATALOGUE_EPOCH", "Stars", "catalogue_table", "make_stars", "space_motion", "unit_vector"]

FloatArray = NDArray[np.float64]

CATALOGUE_EPOCH = 2016.0
"""Epoch of the catalogue's positions (Julian year)."""


@dataclass(frozen=True)
class Stars:
    """The true stars, brightest first; all arrays [n].

    Attributes
    ----------
    source_id : int64
        Built like Gaia's: HEALPix order 12 in the high bits.
    ra, dec : float64
        ICRS at `CATALOGUE_EPOCH` (deg).
    pmra, pmdec : float64
        Proper motion, in right ascension with cos(dec) (mas/yr).
    mag : float64
        G (mag).
    colour : float64
        BP - RP (mag).
    """

    source_id: NDArray[np.int64]
    ra: FloatArray
    dec: FloatArray
    pmra: FloatArray
    pmdec: FloatArray
    mag: FloatArray
    colour: FloatArray


def unit_vector(ra: FloatArray, dec: FloatArray) -> FloatArray:
    """ICRS unit vectors (float64 [..., 3]) of directions in degrees."""
    a, d = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)


def space_motion(stars: Stars, epoch: float) -> tuple[FloatArray, FloatArray]:
    """Right ascension and declination (deg, float64 [n]) at `epoch` (Julian year), moving each star along its great circle."""
    a, d = np.radians(stars.ra), np.radians(stars.dec)
    east = np.stack([-np.sin(a), np.cos(a), np.zeros_like(a)], axis=-1)
    north = np.stack([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)], axis=-1)
    step = np.radians((epoch - CATALOGUE_EPOCH) / 3.6e6)
    moved = unit_vector(stars.ra, stars.dec) + step * (stars.pmra[:, None] * east + stars.pmdec[:, None] * north)
    moved /= np.linalg.norm(moved, axis=-1, keepdims=True)
    return np.degrees(np.arctan2(moved[:, 1], moved[:, 0])) % 360.0, np.degrees(np.arcsin(moved[:, 2]))


def _magnitudes(n: int, rng: np.random.Generator) -> FloatArray:
    """Magnitudes between 11.3 and 18.6 whose number grows by 10^(0.14 mag), brightest first."""
    slope, bright, faint = 0.14, 11.3, 18.6
    span = 10 ** (slope * (faint - bright)) - 1.0
    return np.sort(bright + np.log10(1.0 + span * rng.random(n)) / slope)


def make_stars(camera: Camera, ra0: float, dec0: float, n_star: int, special: dict[int, float], rng: np.random.Generator) -> Stars:
    """Stars all over a field, with some in stated places of the list moved to the inner field and kept free of neighbours.

    Parameters
    ----------
    camera : Camera
        Whose field is filled, and a margin of 8 % about it.
    ra0, dec0 : float
        Middle of the field (deg).
    n_star : int
        Stars wanted; a few fewer are made where they would have crowded the special ones.
    special : dict of int to float
        Special stars: number to magnitude. They stand first in the result, in the order of their numbers.
    rng : numpy.random.Generator

    Returns
    -------
    Stars
        The special ones first, then brightest first.
    """
    n = n_star
    half = 0.54 * np.array([camera.shape[1], camera.shape[0]])
    place = rng.uniform(-1.0, 1.0, (n, 2)) * half
    mag = _magnitudes(n, rng)
    sector = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(len(special)) / max(len(special), 1)
    chosen = np.stack([np.cos(sector), np.sin(sector)], axis=-1) * half * rng.uniform(0.35, 0.5, (len(special), 1))
    room = np.hypot(*(place[:, None, :] - chosen[None, :, :]).T).min(axis=0) if special else np.full(n, np.inf)
    place, mag = np.concatenate([chosen, place[room > 26.0]]), np.concatenate([list(special.values()), mag[room > 26.0]])
    n = mag.size
    colour = np.clip(0.55 + 0.06 * (mag - 12.0) + rng.gamma(2.0, 0.22, n), -0.2, 3.5)
    # The plane of the detector is near enough to the sky's here: these positions are the truth by definition.
    angle = np.radians(camera.rotation)
    p = camera.parity * place[:, 0]
    xi, eta = p * np.cos(angle) + place[:, 1] * np.sin(angle), -p * np.sin(angle) + place[:, 1] * np.cos(angle)
    dec = dec0 + eta * camera.pixel_scale / 3600.0
    ra = ra0 + xi * camera.pixel_scale / 3600.0 / np.cos(np.radians(dec))
    motion = rng.standard_normal((2, n)) * np.where(rng.random(n) < 0.03, 120.0, 6.0)
    pixel = hpgeom.angle_to_pixel(4096, ra, dec, nest=True, lonlat=True, degrees=True)
    source_id = (np.asarray(pixel, dtype=np.int64) << 35) | (np.arange(1, n + 1, dtype=np.int64) << 7)
    return Stars(source_id, ra % 360.0, dec, motion[0], motion[1], mag, colour)


def catalogue_table(stars: Stars, missing: NDArray[np.bool_], rng: np.random.Generator) -> Table:
    """Catalogue of the stars that are not `missing` (bool [n]), with errors in position and magnitude and some colours unknown.

    Returns
    -------
    astropy.table.Table
        source_id, ra, dec (deg, ICRS, epoch `CATALOGUE_EPOCH`), pmra, pmdec (mas/yr), g, bp, rp (mag; bp, rp masked where unknown),
        in order of declination.
    """
    n = stars.mag.size
    wander = 15.0 * rng.standard_normal((2, n)) / 3.6e6
    g = stars.mag + 0.004 * rng.standard_normal(n)
    bp = stars.mag + 0.55 * stars.colour + 0.01 * rng.standard_normal(n)
    rp = stars.mag - 0.45 * stars.colour + 0.01 * rng.standard_normal(n)
    unknown = rng.random(n) < 0.06
    table = Table()
    table["source_id"] = stars.source_id
    table["ra"] = np.round(stars.ra + wander[0] / np.cos(np.radians(stars.dec)), 8)
    table["dec"] = np.round(stars.dec + wander[1], 8)
    for name, value in (("pmra", stars.pmra), ("pmdec", stars.pmdec), ("g", g), ("bp", bp), ("rp", rp)):
        table[name] = MaskedColumn(np.round(value, 4), mask=unknown & (name in ("bp", "rp")))
    for name, unit in (("ra", "deg"), ("dec", "deg"), ("pmra", "mas/yr"), ("pmdec", "mas/yr"), ("g", "mag"), ("bp", "mag"), ("rp", "mag")):
        table[name].unit = unit
    table.meta["description"] = "Simulated stars of a demonstration night; columns as in Gaia"
    table.meta["epoch"] = CATALOGUE_EPOCH
    kept = table[~missing]
    kept.sort("dec")
    return kept
