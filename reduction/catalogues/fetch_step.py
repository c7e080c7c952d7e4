"""Step fetch: the sky around the frames, from catalogues that services have, piece by piece."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import AlgorithmFailed
from db.keys import next_id, now
from db.tables import (
    Catalogue,
    CatalogueCoverage,
    Classification,
    DetectionSummary,
    Exposure,
    FirstSolution,
    Frame,
    Source,
    SourceLink,
    SourceMagnitude,
    SourceName,
    Task,
)
from reduction.catalogues.columns import Stars, recognise, stars_of
from reduction.catalogues.held import held_ranges, order_of_circle
from reduction.catalogues.intake import Intake, take_in
from reduction.catalogues.kernels.identifiers import healpix29
from reduction.catalogues.kernels.sky_ranges import cell_circle, cell_range, circle_ranges, subtract, to_cells
from reduction.catalogues.kernels.star_counts import galactic_latitude, magnitude_of_density, star_density
from reduction.catalogues.services import SERVICES, Survey
from reduction.pipeline.declaration import Context, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Earlier, Untracked

if TYPE_CHECKING:
    from reduction.catalogues.tap import Client

__all__ = ["FetchParameters", "fetch"]

IntArray = npt.NDArray[np.int64]

#: A cell is never asked for in smaller pieces than this order's: 0.9 arcmin hold no catalogue's limit of rows.
_FINEST = 12


@dataclass(frozen=True)
class FetchParameters:
    """Which catalogues are asked, for which stars, and how patiently."""

    catalogues: tuple[str, ...] = parameter(
        (), "", f"whom to ask for the sky of the frames: {', '.join(SERVICES)}; by default nobody", choices=tuple(SERVICES), distinct=True
    )
    sky: tuple[str, ...] = parameter(
        (), "", 'further circles, as "ra dec radius" in degrees, for frames that do not say where they point', length=(0, 1000)
    )
    margin: float = parameter(0.5, "", "sky around a frame's circle, as a fraction of its radius", least=0, most=10)
    deeper: float = parameter(1.0, "mag", "fainter than the frames go by the number of stars on them", least=0, most=10)
    faintest: float = parameter(18.0, "mag", "no fainter stars are asked for", least=0, most=25)
    match_radius: float = parameter(2.0, "arcsec", "a star this close to a known source is the same star", above=0, most=60)
    services: tuple[str, ...] = parameter((), "", 'other addresses of services, as "gaia=https://mirror/tap"', length=(0, 100))
    timeout: float = parameter(60.0, "s", "a request must be answered in this time", least=1, most=3600)
    patience: float = parameter(1800.0, "s", "a job must end in this time", least=1, most=604_800)
    attempts: int = parameter(4, "", "how often a piece of sky is asked for", least=1, most=20)
    pause: float = parameter(5.0, "s", "pause before the second attempt, doubled before each later one", least=0, most=3600)
    max_rows: int = parameter(
        500_000, "", "rows of one answer; a piece of sky with more is asked for in quarters", least=1, most=10_000_000
    )

    def check(self) -> tuple[str, str] | None:
        """Circles are circles, and addresses are those of known services."""
        for text in self.sky:
            if _circle(text) is None:
                return f"sky: no circle on the sky: {text!r}", 'write "ra dec radius" in degrees'
        for text in self.services:
            name, _, address = text.partition("=")
            if name not in SERVICES or not address.startswith(("http://", "https://")):
                return f"services: no address of a service: {text!r}", f'write "NAME=https://..." for one of {", ".join(SERVICES)}'
        return None


@dataclass(frozen=True)
class _Piece:
    """A HEALPix cell to ask a service for, down to a magnitude."""

    name: str
    url: str
    order: int
    pixel: int
    limit: float


@dataclass(frozen=True)
class _Circle:
    """Sky that is wanted (degrees), down to a magnitude."""

    ra: float
    dec: float
    radius: float
    depth: float


def _plan(context: Context, p: FetchParameters) -> list[Unit[_Piece]]:
    """The pieces of sky around the frames that are not held as deep as the frames go."""
    if not p.catalogues:
        return []
    circles = [*_circles_of_frames(context.session, p), *_given(p)]
    units: list[Unit[_Piece]] = []
    for name in p.catalogues:
        survey, url = _survey(name, p)
        cells = _missing(context.session, survey.sha256(url), circles, p, everything=_has_failed(context.session, name))
        units += [_unit(name, survey, url, cell, limit) for cell, limit in cells]
    return units


def _has_failed(session: Session, name: str) -> bool:
    """Whether a piece is missing that was asked for in vain."""
    query = sa.select(Task.task_id).where(Task.step == "fetch", Task.status == "failed", Task.unit.startswith(f"{name}:"))
    return session.execute(query.limit(1)).first() is not None


def _unit(name: str, survey: Survey, url: str, cell: tuple[int, int], limit: float) -> Unit[_Piece]:
    order, pixel = cell
    ra, dec, radius = cell_circle(order, pixel)
    label = f"{survey.title} to {limit:g} mag, {radius:.2f} deg around {ra:.3f} {dec:+.3f}"
    payload = _Piece(name, url, order, pixel, limit)
    return Unit(f"{name}:{order}:{pixel}", label, facts=f"{url} {survey.table} {limit:g}", payload=payload)


def _missing(
    session: Session, sha256: str, circles: list[_Circle], p: FetchParameters, *, everything: bool = False
) -> list[tuple[tuple[int, int], float]]:
    """Cells to ask for, each with its magnitude limit.

    Sky that is held counts where it is as deep as the frames; new sky goes deeper. What a frame needs is less than what is asked
    for, so that a frame that moves a little asks for nothing; `everything`: what is missing of the margin is asked for too.
    """
    wanted: dict[float, list[IntArray]] = {}
    orders: dict[float, int] = {}
    for depth in sorted({circle.depth for circle in circles}, reverse=True):
        held = held_ranges(session, sha256, depth)
        limit = min(p.faintest, float(np.ceil(depth + p.deeper)))
        for circle in (circle for circle in circles if circle.depth == depth):
            order = min(order_of_circle(circle.radius), _FINEST)
            if not everything and len(subtract(circle_ranges(circle.ra, circle.dec, circle.radius, order + 3), held)) == 0:
                continue
            sky = circle_ranges(circle.ra, circle.dec, (1.0 + p.margin) * circle.radius, order)
            wanted.setdefault(limit, []).append(subtract(sky, held))
            orders[limit] = max(orders.get(limit, 0), order, _order_for_rows(circle, limit, p.max_rows))
    cells: list[tuple[tuple[int, int], float]] = []
    asked = np.zeros((0, 2), dtype=np.int64)
    for limit in sorted(wanted, reverse=True):
        ranges = subtract(np.concatenate(wanted[limit]), asked)
        asked = np.concatenate([asked, ranges])
        cells += [(cell, limit) for cell in to_cells(ranges, orders[limit])]
    return cells


def _order_for_rows(circle: _Circle, limit: float, max_rows: int) -> int:
    """The order whose cells hold a quarter of the allowed rows, by the mean star counts."""
    density = star_density(limit, float(galactic_latitude(circle.ra, circle.dec)))
    side = np.sqrt(max_rows / 4.0 / density)
    return int(np.clip(np.ceil(np.log2(58.6 / side)), 0, _FINEST))


def _circles_of_frames(session: Session, p: FetchParameters) -> list[_Circle]:
    """Where object frames lie, by their solutions, else by their headers, and how deep each night's frames of an instrument go."""
    query = (
        sa.select(
            *(Frame.instrument_id, Frame.night_id, Frame.nx, Frame.ny, Frame.raw_step, DetectionSummary.n_detection),
            *(Exposure.pointing_ra, Exposure.pointing_dec, Exposure.pixel_scale.label("header_scale")),
            *(FirstSolution.ra, FirstSolution.dec, FirstSolution.radius, FirstSolution.pixel_scale),
        )
        .join(Exposure, Exposure.exposure_id == Frame.exposure_id)
        .join(Classification, Classification.frame_id == Frame.frame_id)
        .join(DetectionSummary, DetectionSummary.frame_id == Frame.frame_id)
        .outerjoin(FirstSolution, FirstSolution.frame_id == Frame.frame_id)
        .where(Classification.type == "object")
    )
    places: dict[tuple[int, int], set[tuple[float, float, float]]] = {}
    depths: dict[tuple[int, int], list[float]] = {}
    for row in session.execute(query.order_by(Frame.frame_id)):
        scale = row.pixel_scale or (row.header_scale * row.raw_step if row.header_scale else None)
        ra, dec = (row.pointing_ra, row.pointing_dec) if row.ra is None else (row.ra, row.dec)
        if scale is None or ra is None or dec is None:
            continue
        radius = row.radius or float(np.hypot(row.nx, row.ny)) / 2 * scale / 3600
        # Rounded, since hundreds of frames of a night point at one place.
        digits = max(0, int(np.ceil(-np.log10(radius / 20))))
        group = (row.instrument_id, row.night_id)
        places.setdefault(group, set()).add((round(ra, digits), round(dec, digits), round(1.05 * radius, digits + 1)))
        density = max(row.n_detection, 1) / (row.nx * row.ny * (scale / 3600) ** 2)
        depths.setdefault(group, []).append(magnitude_of_density(density, float(galactic_latitude(ra, dec))))
    return [
        _Circle(*place, min(p.faintest, float(np.median(depths[group]))))
        for group, found in sorted(places.items())
        for place in sorted(found)
    ]  # fmt: skip


def _given(p: FetchParameters) -> list[_Circle]:
    return [_Circle(*circle, p.faintest - p.deeper) for circle in map(_circle, p.sky) if circle is not None]


def _circle(text: str) -> tuple[float, float, float] | None:
    """Right ascension, declination and radius of "ra dec radius" (degrees); None where that is no circle on the sky."""
    try:
        ra, dec, radius = (float(number) for number in text.split())
    except ValueError:
        return None
    return (ra % 360.0, dec, radius) if np.isfinite(ra) and abs(dec) <= 90.0 and 0.0 < radius <= 90.0 else None


def _survey(name: str, p: FetchParameters) -> tuple[Survey, str]:
    others = dict(text.split("=", 1) for text in p.services)
    return SERVICES[name], others.get(name, SERVICES[name].url)


@step(
    "fetch",
    plan=_plan,
    inputs=(Untracked("detect"), Earlier("solve")),
    parameters=FetchParameters,
    writes=(Catalogue, CatalogueCoverage, Source, SourceLink, SourceMagnitude, SourceName),
)
def fetch(context: Context, unit: Unit[_Piece], p: FetchParameters) -> Output:
    """Ask services for the catalogue stars around the frames; off unless [fetch] catalogues names some."""
    piece = unit.payload
    survey, url = SERVICES[piece.name], piece.url
    from reduction.catalogues.tap import Client  # pyvo takes long to import, and only those who fetch need it

    client = Client(url, p.timeout, p.patience, _attempts(context.session, p), p.pause, p.max_rows)
    stars, found = _stars(client, survey, piece.order, piece.pixel, piece.limit)
    session = context.session
    sha256 = survey.sha256(url)
    catalogue_id = session.execute(sa.select(Catalogue.catalogue_id).where(Catalogue.sha256 == sha256)).scalar()
    catalogue_id = catalogue_id or next_id(session, Catalogue.catalogue_id)
    taken = take_in(session, stars, catalogue_id, p.match_radius, whole=False)
    row = {
        "catalogue_id": catalogue_id,
        "kind": "service",
        "name": survey.title,
        "path": f"{url} {survey.table}",
        "sha256": sha256,
        "epoch": survey.epoch,
        "columns": json.dumps(found, sort_keys=True),
    }
    lo, hi = cell_range(piece.order, piece.pixel)
    cover = {"catalogue_id": catalogue_id, "lo": lo, "hi": hi, "magnitude_limit": piece.limit, "n_source": taken.n}
    linked = f", {taken.n_linked} known from the frames" if taken.n_linked else ""
    remark = f"{survey.title}: {taken.n} stars, {taken.n_new} new{linked}"
    return Output(finish=_Finish(row, cover, taken), remark=remark)


@dataclass(frozen=True)
class _Finish:
    """The catalogue's row, the sky that it now holds, and its stars."""

    row: Mapping[str, Any]
    cover: Mapping[str, Any]
    taken: Intake

    def __call__(self, session: Session, task_id: int) -> list[Rows]:
        """Put this piece in the place of smaller or shallower ones inside it."""
        of = CatalogueCoverage.catalogue_id == self.cover["catalogue_id"]
        inside = (CatalogueCoverage.lo >= self.cover["lo"], CatalogueCoverage.hi <= self.cover["hi"])
        session.execute(sa.delete(CatalogueCoverage).where(of, *inside))
        held = session.execute(sa.select(sa.func.sum(CatalogueCoverage.n_source)).where(of)).scalar() or 0
        row = {**self.row, "n_source": int(held) + self.taken.n}
        return [
            Rows(Catalogue, row, upsert=True),
            *self.taken.write(session, task_id),
            Rows(CatalogueCoverage, {**self.cover, "task_id": task_id}, upsert=True),
        ]


def _attempts(session: Session, p: FetchParameters) -> int:
    """One after a piece that was just asked for in vain: a night without a network must not wait for each piece."""
    query = sa.select(Task.status, Task.finished).where(Task.step == "fetch").order_by(Task.finished.desc(), Task.task_id.desc())
    last = session.execute(query.limit(1)).first()
    in_vain = last is not None and last.status == "failed" and now() - last.finished < dt.timedelta(hours=1)
    return 1 if in_vain else p.attempts


def _stars(client: Client, survey: Survey, order: int, pixel: int, limit: float) -> tuple[Stars, dict[str, str]]:
    """The stars of a cell; where an answer is cut short, those of its quarters."""
    answer = client.ask(survey.query(order, pixel, limit))
    if not answer.truncated:
        found = recognise(answer.table.colnames, {}, client.url)
        stars = stars_of(answer.table, found, survey.epoch, client.url, survey.systems)
        return (stars if survey.position is None else _inside(stars, order, pixel)), found
    if order >= _FINEST:
        raise AlgorithmFailed(
            f"{len(answer.table)} rows and more in 0.9 arcmin", where=client.url, hint="lower [fetch] faintest", code="fetch.truncated"
        )
    quarters = [_stars(client, survey, order + 1, 4 * pixel + k, limit) for k in range(4)]
    return Stars.joined([stars for stars, _ in quarters]), quarters[0][1]


def _inside(stars: Stars, order: int, pixel: int) -> Stars:
    """The stars whose position, as the archive keeps it, lies in a cell: each star is in one cell."""
    lo, hi = cell_range(order, pixel)
    place = healpix29(stars.ra, stars.dec)
    return stars.where((place >= lo) & (place < hi))
