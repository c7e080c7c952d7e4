"""A field of stars and what a camera measures of it night after night, of which every number is known.

Nothing here knows of archives: `many_nights.py` writes what this module makes up. A night follows from the seed and its own number
alone, so it is the same whatever other nights there are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from db.flags import Flag
from db.terms import COLOUR_PIVOT, TERMS, design
from reduction.astrometry.kernels.wcs import PlateSolution
from reduction.catalogues.kernels.identifiers import fold_of, new_source_ids, unit_vectors
from reduction.frames.kernels.times import ExposureGeometry, barycentric

__all__ = ["EXPTIME", "FIELD", "NX", "NY", "SITE", "TRUE_TERMS", "Clouds", "Dip", "NightTruth", "Plan", "Sky"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: Latitude and longitude (deg), height (m): from here the field never sets.
SITE = (60.0, 0.0, 100.0)
FIELD = (150.0, 75.0)
NX = NY = 1600
SCALE = 20.0  # arcsec/pixel: the airmass differs over the frame
EXPTIME = 60.0
GAIN = 2.0  # electron/ADU
SKY = 30.0  # ADU/pixel
READ_NOISE = 3.0  # electron
#: A star of magnitude 25 - ZERO gives 1 ADU a second.
ZERO = 4.0
BORDER = 8.0  # pixel: nearer to it, part of the largest aperture is beyond the edge
#: Terms of which a frame's true correction is made.
TRUE_TERMS = ("const", "x", "y", "xx", "xy", "yy", "colour", "airmass_colour")


@dataclass(frozen=True)
class Plan:
    """What the field and its nights are like.

    Attributes
    ----------
    n_star, n_frame, n_slot : int
        Stars in the sky of the field, of which one in ten is beyond the edge of a frame; frames a night; photometry slots, of which the
        first is the profile's.
    seed : int
    first_night : int
        night_id of the first.
    brightest, faintest : float
        Of the stars (mag); fainter ones are more.
    n_variable : int
        Stars that vary, by a sine of `amplitude` (mag).
    drift, wander : float
        How far the pointing drifts within a night, and how far it differs between nights (pixel).
    missing : float
        Part of the stars that a frame lacks for no reason.
    floor : float
        Scatter beyond photons (mag).
    night_scatter : float
        By how much the terms of nights differ, and of frames a third of it (mag).
    camera : int
        Number of the camera: each sees the same stars with photons of its own.
    passband : str
        Name of its passband.
    zero, colour_term : float
        What the camera's magnitudes are off by: all, and by colour (mag).
    catalogue_error : float
        Error of the catalogue's magnitudes (mag); where it is 0 they are the true ones.
    """

    n_star: int = 300
    n_frame: int = 10
    n_slot: int = 3
    seed: int = 1
    first_night: int = 6000
    brightest: float = 8.0
    faintest: float = 12.5
    n_variable: int = 3
    amplitude: float = 0.05
    drift: float = 6.0
    wander: float = 15.0
    missing: float = 0.01
    floor: float = 0.001
    night_scatter: float = 0.02
    camera: int = 1
    passband: str = "G"
    zero: float = 0.0
    colour_term: float = 0.0
    catalogue_error: float = 0.0


@dataclass(frozen=True)
class Dip:
    """A star that is fainter by a part `depth` of its flux on the frames `first` <= k < `last` of a night."""

    star: int
    first: int
    last: int
    depth: float = 0.01


@dataclass(frozen=True)
class Clouds:
    """Frames `first` <= k < `last` behind clouds that take `depth` magnitudes, and more or less of it over the field."""

    first: int
    last: int
    depth: float = 0.8
    patches: float = 0.1


@dataclass(frozen=True)
class NightTruth:
    """One night of f frames and s stars.

    Attributes
    ----------
    night_id : int
    jd_utc : float64, shape (f,)
    geometry : ExposureGeometry
    airmass : float64, shape (f,)
        Of the frames' centres.
    shift : float64, shape (f, 2)
        Of the pointing (pixel).
    coefficients : dict of str to float64, shape (f,)
        Of the true correction, by the name of the term (mag).
    mag : float64, shape (f, s)
        True magnitudes.
    correction : float64, shape (f, s)
        What the true magnitudes differ by from instrumental ones, but for the slot's own constant and clouds (mag).
    cloud : float64, shape (f, s)
        What clouds take (mag).
    x, y : float64, shape (f, s)
        Positions (pixel).
    measured : bool, shape (f, s)
    flags : int64, shape (f, s)
    flux, flux_err : float64, shape (n_slot, f, s)
        ADU per exposure.
    """

    night_id: int
    jd_utc: Floats
    geometry: ExposureGeometry
    airmass: Floats
    shift: Floats
    coefficients: dict[str, Floats]
    mag: Floats
    correction: Floats
    cloud: Floats
    x: Floats
    y: Floats
    measured: Bools
    flags: NDArray[np.int64]
    flux: Floats
    flux_err: Floats


@dataclass(frozen=True)
class Sky:
    """The stars of a plan, in the order of their identifiers."""

    plan: Plan = field(default_factory=Plan)

    @cached_property
    def plate(self) -> PlateSolution:
        """The plate solution of a frame that points to where it should."""
        side = 3600.0 / SCALE
        middle = ((NX - 1) / 2, (NY - 1) / 2)
        return PlateSolution(*FIELD, 1, (middle[0], -side, 0.0), (middle[1], 0.0, side), NX, NY)

    @cached_property
    def _drawn(self) -> tuple[NDArray[np.int64], Floats, Floats, Floats, Floats]:
        plan = self.plan
        rng = np.random.default_rng((plan.seed, 0))
        margin = 0.02 * NX
        x, y = (rng.uniform(-margin, size - 1 + margin, plan.n_star) for size in (NX, NY))
        ra, dec = self.plate.unproject(x, y)
        # Twice as many a magnitude fainter.
        mag = plan.brightest + np.log2(1 + (2.0 ** (plan.faintest - plan.brightest) - 1) * rng.random(plan.n_star))
        colour = np.clip(rng.normal(COLOUR_PIVOT, 0.4, plan.n_star), -0.3, 2.5)
        ids = new_source_ids(ra, dec)
        order = np.argsort(ids)
        return ids[order], ra[order], dec[order], mag[order], colour[order]

    @property
    def source_id(self) -> NDArray[np.int64]:
        """Identifiers, rising."""
        return self._drawn[0]

    @property
    def ra(self) -> Floats:
        """Right ascension (deg)."""
        return self._drawn[1]

    @property
    def dec(self) -> Floats:
        """Declination (deg)."""
        return self._drawn[2]

    @property
    def mag(self) -> Floats:
        """Mean magnitude."""
        return self._drawn[3]

    @cached_property
    def catalogue_mag(self) -> Floats:
        """What the catalogue has of it."""
        return self.mag + self.plan.catalogue_error * np.random.default_rng((self.plan.seed, 0, 1)).standard_normal(self.plan.n_star)

    @property
    def colour(self) -> Floats:
        """Colour (mag)."""
        return self._drawn[4]

    @cached_property
    def fold(self) -> NDArray[np.int16]:
        """Fold of each."""
        return fold_of(self.source_id)

    @cached_property
    def unit(self) -> Floats:
        """Unit vectors, shape (s, 3)."""
        return unit_vectors(self.ra, self.dec)

    @cached_property
    def variables(self) -> NDArray[np.int64]:
        """Stars that vary: of all magnitudes."""
        by_mag = np.argsort(self.mag)
        places = np.linspace(0.2, 0.8, self.plan.n_variable) * (self.plan.n_star - 1)
        return np.sort(by_mag[places.astype(np.int64)])

    def night(
        self, night_id: int, *, n_frame: int | None = None, dips: tuple[Dip, ...] = (), clouds: tuple[Clouds, ...] = ()
    ) -> NightTruth:  # fmt: skip
        """A night, the same at each call but for what is asked for."""
        plan, n = self.plan, n_frame or self.plan.n_frame
        rng = np.random.default_rng((plan.seed, plan.camera, night_id))
        # From eight in the evening, a frame in three minutes, or closer where the night would not hold them.
        jd_utc = 2451544.5 + night_id + 20.0 / 24.0 + np.linspace(0.0, min(0.4, n / 480.0), n)
        geometry = barycentric(jd_utc, 0.0, *SITE, ra=FIELD[0], dec=FIELD[1])
        zenith = np.stack([geometry.zx, geometry.zy, geometry.zz], axis=1)
        airmass = 1.0 / (zenith @ unit_vectors(*FIELD))
        shift = rng.normal(0.0, plan.wander, 2) + np.outer(np.linspace(-0.5, 0.5, n), rng.normal(0.0, plan.drift, 2))
        x0, y0 = self.plate.project(self.ra, self.dec)
        x, y = x0 + shift[:, :1], y0 + shift[:, 1:]
        coefficients = self._coefficients(rng, airmass)
        terms = self._terms(x, y, 1.0 / (zenith @ self.unit.T) - airmass[:, None])
        correction = np.einsum("fst,ft->fs", terms, np.stack([coefficients[name] for name in TRUE_TERMS], axis=1))
        mag = self._magnitudes(jd_utc, dips)
        cloud = _cloud(n, clouds, x / NX, y / NY)
        flux, error = self._fluxes(rng, mag + correction + cloud)
        inside = self.plate.inside(x, y, 1.0) & (rng.random(x.shape) >= plan.missing)
        near = ~self.plate.inside(x, y, BORDER)
        flags = np.where(near, int(Flag.EDGE), 0)
        return NightTruth(
            night_id, jd_utc, geometry, airmass, shift, coefficients, mag, correction, cloud, x, y, inside, flags, flux, error
        )

    def _coefficients(self, rng: np.random.Generator, airmass: Floats) -> dict[str, Floats]:
        """Of each frame: extinction and what the camera and the air add, another on each night and a little on each frame."""
        size, n = self.plan.night_scatter, len(airmass)
        drawn = {name: size * (rng.normal() + rng.normal(0.0, 1.0 / 3.0, n)) for name in TRUE_TERMS}
        drawn["const"] += ZERO + self.plan.zero + 0.15 * airmass
        drawn["colour"] += self.plan.colour_term
        # Second-order extinction is the air's, and so much the same on all frames.
        second = 0.03 + 0.1 * size * rng.normal()
        drawn["colour"] += second * airmass
        drawn["airmass_colour"] = np.full(n, second)
        return drawn

    def terms(self, night: NightTruth) -> Floats:
        """The terms of `TRUE_TERMS` at each measurement of a night, shape (f, s, terms)."""
        zenith = np.stack([night.geometry.zx, night.geometry.zy, night.geometry.zz], axis=1)
        return self._terms(night.x, night.y, 1.0 / (zenith @ self.unit.T) - night.airmass[:, None])

    def _terms(self, x: Floats, y: Floats, airmass: Floats) -> Floats:
        variables = {
            "X": (2.0 * x + 1.0) / NX - 1.0,
            "Y": (2.0 * y + 1.0) / NY - 1.0,
            "colour": np.broadcast_to(self.colour - COLOUR_PIVOT, x.shape),
            "airmass": airmass,
        }
        by_name = {term.name: term for term in TERMS}
        matrix = design({name: values.ravel() for name, values in variables.items()}, tuple(by_name[name] for name in TRUE_TERMS))
        return matrix.reshape(*x.shape, len(TRUE_TERMS))

    def _magnitudes(self, jd_utc: Floats, dips: tuple[Dip, ...]) -> Floats:
        mag = np.broadcast_to(self.mag, (len(jd_utc), self.plan.n_star)).copy()
        for k, star in enumerate(self.variables.tolist()):
            mag[:, star] += self.plan.amplitude * np.sin(2 * np.pi * jd_utc / (0.27 + 0.13 * k))
        for dip in dips:
            mag[dip.first : dip.last, dip.star] -= 2.5 * np.log10(1.0 - dip.depth)
        return mag

    def _fluxes(self, rng: np.random.Generator, instrumental: Floats) -> tuple[Floats, Floats]:
        """Fluxes in each slot: photons and floor are common to the slots, the sky is each one's own."""
        light = EXPTIME * 10.0 ** (0.4 * (25.0 - instrumental))
        photons = rng.standard_normal(light.shape) * np.sqrt(light / GAIN) + rng.standard_normal(light.shape) * self.plan.floor * light
        flux, error = np.empty((2, self.plan.n_slot, *light.shape))
        for slot in range(self.plan.n_slot):
            part, pixels = 1.0 - 0.2 * 0.5**slot, 20.0 + 30.0 * slot
            sky = np.sqrt(pixels * (SKY * GAIN + READ_NOISE**2)) / GAIN
            flux[slot] = part * (light + photons) + sky * rng.standard_normal(light.shape)
            error[slot] = np.sqrt(part**2 * light / GAIN + sky**2)
        return flux, error


def _cloud(n: int, clouds: tuple[Clouds, ...], u: Floats, v: Floats) -> Floats:
    taken = np.zeros(u.shape)
    for cloud in clouds:
        here = slice(cloud.first, min(cloud.last, n))
        phase = np.arange(n)[here, None]
        patches = np.sin(9.0 * u[here] + phase) * np.sin(7.0 * v[here] - 0.7 * phase)
        taken[here] += cloud.depth + cloud.patches * patches
    return taken
