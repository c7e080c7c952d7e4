"""Catalogues that services have: where, in which table, and how the stars of one HEALPix pixel are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from reduction.catalogues.kernels.sky_ranges import cell_circle

__all__ = ["SERVICES", "Survey"]

_GAIA = "https://gea.esac.esa.int/tap-server/tap"
_VIZIER = "https://tapvizier.cds.unistra.fr/TAPVizieR/tap"


@dataclass(frozen=True)
class Survey:
    """A catalogue at a TAP service."""

    title: str
    url: str
    table: str
    columns: tuple[str, ...]  # as ADQL has them
    magnitude: str  # the column that the limit holds for
    epoch: float  # of the positions, where no column says it
    position: tuple[str, str] | None = None  # None: Gaia's identifiers say the pixel
    systems: Mapping[str, str] = field(default_factory=dict)  # of bands, where not the usual

    def sha256(self, url: str) -> str:
        """What the catalogue is known by in the archive."""
        return hashlib.sha256(f"{url}\n{self.table}".encode()).hexdigest()

    def query(self, order: int, pixel: int, limit: float) -> str:
        """ADQL for the stars in one pixel (nested) that are not fainter than a limit.

        Gaia's identifiers hold the order-12 pixel, so that an index answers
        and a star is in one pixel exactly. Elsewhere it is the circle around
        the pixel: what lies outside the pixel is cut off afterwards.
        """
        if self.position is None:
            shift = 35 + 2 * (12 - order)
            where = f"source_id BETWEEN {pixel << shift} AND {((pixel + 1) << shift) - 1}"
        else:
            circle = ", ".join(f"{value:.8f}" for value in cell_circle(order, pixel))
            where = f"1 = CONTAINS(POINT('ICRS', {self.position[0]}, {self.position[1]}), CIRCLE('ICRS', {circle}))"
        return f"SELECT {', '.join(self.columns)} FROM {self.table} WHERE {where} AND {self.magnitude} <= {limit:g}"


SERVICES: dict[str, Survey] = {
    "gaia": Survey(
        "Gaia DR3",
        _GAIA,
        "gaiadr3.gaia_source",
        (
            *("source_id", "ra", "dec", "ra_error", "dec_error", "pmra", "pmdec", "ref_epoch"),
            *(f"phot_{band}_mean_{what}" for band in ("g", "bp", "rp") for what in ("mag", "flux_over_error")),
        ),
        "phot_g_mean_mag",
        2016.0,
    ),
    "tycho2": Survey(
        "Tycho-2",
        _VIZIER,
        '"I/259/tyc2"',
        (
            *(
                "TYC1",
                "TYC2",
                "TYC3",
                "HIP",
                "RAmdeg",
                "DEmdeg",
                "e_RAmdeg",
                "e_DEmdeg",
                "pmRA",
                "pmDE",
                "BTmag",
                "e_BTmag",
                "VTmag",
                "e_VTmag",
            ),
        ),
        "VTmag",
        2000.0,
        ("RAmdeg", "DEmdeg"),
    ),
    "apass": Survey(
        "APASS DR9",
        _VIZIER,
        '"II/336/apass9"',
        (
            *("RAJ2000", "DEJ2000", "e_RAJ2000", "e_DEJ2000", "Vmag", "e_Vmag", "Bmag", "e_Bmag"),
            *(f'"{prefix}{band}\'mag"' for band in "gri" for prefix in ("", "e_")),
        ),
        "Vmag",
        2000.0,
        ("RAJ2000", "DEJ2000"),
    ),
    "refcat2": Survey(
        "ATLAS-REFCAT2",
        _VIZIER,
        '"J/ApJ/867/105/refcat2"',
        (
            *("RA_ICRS", "DE_ICRS", "e_RA_ICRS", "e_DE_ICRS", "pmRA", "pmDE"),
            *(f'"{prefix}{band}mag"' for band in ("G", "BP", "RP", "g", "r", "i", "z", "J", "H", "K") for prefix in ("", "e_")),
        ),
        '"rmag"',
        2015.5,
        ("RA_ICRS", "DE_ICRS"),
        dict.fromkeys(("g", "r", "i", "z"), "Pan-STARRS"),
    ),
}
