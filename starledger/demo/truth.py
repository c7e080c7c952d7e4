"""The hidden truth of a demo night, which the comparison alone reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from db.errors import ConfigurationError
from starledger.demo.camera import Camera, Site
from starledger.demo.night import Conditions
from starledger.demo.signals import Signal, Transit, signal_from_row
from starledger.demo.sky import Stars, space_motion, unit_vector

__all__ = ["EXTINCTION", "EXTINCTION_COLOUR", "INSTRUMENT_COLOUR", "Truth", "read_truth", "scintillation", "write_truth"]

FloatArray = NDArray[np.float64]

EXTINCTION = 0.16
"""Loss at the reference colour (mag/airmass)."""
EXTINCTION_COLOUR = -0.025
"""Change of the extinction with colour (mag/airmass/mag)."""
INSTRUMENT_COLOUR = 0.05
"""Instrumental magnitude minus G for a star 1 mag redder than the reference colour."""
_REFERENCE_COLOUR = 1.0


@dataclass(frozen=True)
class Truth:
    """Everything that was put into a demo night.

    Attributes
    ----------
    seed : int
        The night follows from it and from the sizes asked for.
    camera, site : Camera, Site
    exptime : float
        Of the object frames (s).
    epoch : float
        Of the night (Julian year).
    stars : Stars
    catalogued : bool [n_star]
        Whether the catalogue lists the star.
    signals : tuple of Signal
    conditions : Conditions
    files : tuple of str
        Names of the object frames, in the order of `conditions`.
    """

    seed: int
    camera: Camera
    site: Site
    exptime: float
    epoch: float
    stars: Stars
    catalogued: NDArray[np.bool_]
    signals: tuple[Signal, ...]
    conditions: Conditions
    files: tuple[str, ...]

    def positions(self) -> tuple[FloatArray, FloatArray]:
        """Right ascension and declination (deg, ICRS, [n_star]) on the night."""
        return space_motion(self.stars, self.epoch)

    def project(self, frame: int) -> tuple[FloatArray, FloatArray]:
        """x, y (0-based pixel, [n_star]) of the stars in object frame number `frame`; some lie off the frame."""
        c = self.conditions
        return self.camera.project(*self.positions(), float(c.ra[frame]), float(c.dec[frame]), float(c.turn[frame]))

    def bjd_tdb(self, star: int) -> FloatArray:
        """BJD_TDB of star number `star` in the middle of each object frame (d, [n_frame])."""
        ra, dec = self.positions()
        return np.asarray(self.conditions.jd_tdb + self.conditions.barycentric @ unit_vector(ra[star], dec[star]))

    def airmass(self) -> FloatArray:
        """Airmass (plane-parallel) of every star in every object frame, [n_frame, n_star]."""
        return np.asarray(1.0 / (self.conditions.zenith @ unit_vector(*self.positions()).T))

    def electrons(self, frame: int) -> FloatArray:
        """Photo-electrons ([n_star]) that each star sends into object frame `frame`: response 1, no noise, no scintillation."""
        c, mid = self.conditions, self.camera.centre
        x, y = self.project(frame)
        colour = self.stars.colour - _REFERENCE_COLOUR
        airmass = self.airmass()[frame]
        cloud = c.cloud[frame] + c.cloud_x[frame] * (x / mid[0] - 1.0) + c.cloud_y[frame] * (y / mid[1] - 1.0)
        mag = self.stars.mag + INSTRUMENT_COLOUR * colour + (EXTINCTION + EXTINCTION_COLOUR * colour) * airmass
        mag = mag + np.maximum(cloud, 0.0) + c.transparency[frame]
        for signal in self.signals:
            mag[signal.star] += signal.magnitude_change(self.bjd_tdb(signal.star)[frame : frame + 1])[0]
        return np.asarray(self.exptime * 10.0 ** (-0.4 * (mag - self.camera.zero_point)))

    def expected_scatter(self, mag: FloatArray, radius: float) -> FloatArray:
        """Noise of one point to expect in the typical frame, without what fits and flats add.

        Parameters
        ----------
        mag : float64 [n]
            G (mag).
        radius : float
            Of the aperture (pixel).

        Returns
        -------
        float64 [n]
            Standard deviation (mag): photons, sky, read noise and scintillation.
        """
        c, area = self.conditions, np.pi * radius**2
        airmass = float(np.median(self.airmass()))
        loss = EXTINCTION * airmass + float(np.median(c.cloud))
        light = self.exptime * 10.0 ** (-0.4 * (np.asarray(mag) + loss - self.camera.zero_point))
        noise2 = light + area * (float(np.median(c.sky)) * self.exptime + self.camera.read_noise**2)
        twinkle = scintillation(self.camera, self.site, self.exptime, np.array(airmass))
        return np.asarray(1.0857 * np.sqrt(noise2 / light**2 + twinkle**2))


def scintillation(camera: Camera, site: Site, exptime: float, airmass: FloatArray) -> FloatArray:
    """Relative rms of a star's light by scintillation, shape of `airmass`.

    Young's formula with the median coefficient 1.5 (Osborn et al. 2015, MNRAS 452, 1707, equation 7).
    """
    variance = 1e-5 * 1.5**2 * camera.diameter ** (-4.0 / 3.0) / exptime * airmass**3 * np.exp(-2.0 * site.height / 8000.0)
    return np.asarray(np.sqrt(variance))


def write_truth(truth: Truth, directory: Path) -> None:
    """Write ``truth.ecsv`` (the stars) and ``truth.json`` (the rest) into `directory`."""
    table = Table({field.name: getattr(truth.stars, field.name) for field in fields(Stars)})
    table["catalogued"] = truth.catalogued
    table.write(directory / "truth.ecsv", format="ascii.ecsv", overwrite=True)
    rows = [{"kind": "transit" if isinstance(s, Transit) else "pulsation", **asdict(s)} for s in truth.signals]
    document = {
        "seed": truth.seed,
        "camera": asdict(truth.camera),
        "site": asdict(truth.site),
        "exptime": truth.exptime,
        "epoch": truth.epoch,
        "signals": rows,
        "files": list(truth.files),
        "conditions": {field.name: getattr(truth.conditions, field.name).tolist() for field in fields(Conditions)},
    }
    (directory / "truth.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_truth(directory: Path) -> Truth:
    """Read what `write_truth` wrote; ConfigurationError where it is not there."""
    path = directory / "truth.json"
    if not path.exists():
        raise ConfigurationError(
            "truth.json is missing: no demo night", where=str(directory), hint="run `starledger demo` on it first", code="demo.truth"
        )
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    table = Table.read(directory / "truth.ecsv", format="ascii.ecsv")
    camera = document["camera"]
    return Truth(
        seed=document["seed"],
        camera=Camera(**{**camera, "shape": tuple(camera["shape"])}),
        site=Site(**document["site"]),
        exptime=document["exptime"],
        epoch=document["epoch"],
        stars=Stars(**{field.name: np.asarray(table[field.name]) for field in fields(Stars)}),
        catalogued=np.asarray(table["catalogued"], dtype=bool),
        signals=tuple(signal_from_row(row) for row in document["signals"]),
        conditions=Conditions(**{name: np.asarray(values) for name, values in document["conditions"].items()}),
        files=tuple(document["files"]),
    )
