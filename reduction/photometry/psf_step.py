"""Step psf: the profile of stars on each object frame, as a smooth map that fluxes are fitted with."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from db.errors import AlgorithmFailed
from db.tables import Frame, PsfStar, ShapeMap
from db.tables import PsfMap as PsfMapRow
from reduction.calibration.master_choice import Chosen, PatternWithoutDark
from reduction.photometry.kernels.psf_errors import MapErrors
from reduction.photometry.kernels.psf_fit import PsfFit, fit_psf
from reduction.photometry.kernels.psf_map import PsfMap
from reduction.photometry.kernels.psf_seed import fitted_seed, seed_map
from reduction.photometry.profile_frames import frame_fwhm, profile_kind, sensitive_width
from reduction.photometry.star_light import TRAITS, PlacedSources, placed_sources, star_light
from reduction.pipeline.declaration import Context, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Own, Untracked, Worked

__all__ = ["PsfParameters", "psf"]


@dataclass(frozen=True)
class PsfParameters:
    """How the profile of stars is mapped."""

    kind: str = parameter(
        "auto",
        "",
        "psf: the light's own profile, integrated over pixels; prf: a pixel's response; auto: psf where stars are sampled well enough",
        choices=("auto", "psf", "prf"),
    )
    least_fwhm: float = parameter(1.2, "pixel", "auto takes prf on frames with sharper stars", least=0, most=100)
    order: int = parameter(3, "", "highest degree in x, y; the lowest that predicts left-out stars as well is taken", least=0, most=5)
    radius: float = parameter(4.0, "FWHM", "the profile counts as far as this from a star", least=1, most=20)
    min_snr: float = parameter(20.0, "", "least signal-to-noise ratio of a star that shows the profile", least=5, most=10_000)
    max_stars: int = parameter(2000, "", "at most so many stars show it, evenly over the frame", least=10, most=100_000)
    terms: tuple[str, ...] = parameter(
        ("colour",),
        "",
        "what the profile may change with beside the place: a star's measured colour, its brightness (catalogue flux); each is tried in "
        "turn where 30 stars are known by it, and kept if it predicts left-out stars better",
        choices=tuple(TRAITS),
        distinct=True,
    )


@step(
    "psf",
    inputs=(
        Own("calibrate"),
        Own("detect"),
        Own("refine"),
        Own("shapes", needed=False),
        Own("background"),
        PatternWithoutDark("fixed_pattern"),
        Worked("discover"),
        Untracked("field_colours"),
    ),
    version=5,
    parameters=PsfParameters,
    writes=(PsfMapRow, PsfStar),
    standing=(PsfMapRow,),
)
def psf(context: Context, unit: Unit[Chosen | None], p: PsfParameters) -> Output:
    """Fit a smooth map of the profile of stars to their pixels; the shape map stands in where there are too few."""
    frame = context.session.get_one(Frame, int(unit.key))
    shape = context.session.get(ShapeMap, frame.frame_id)
    fwhm = frame_fwhm(context.session, frame.frame_id)
    radius = p.radius * fwhm
    sources = placed_sources(context, frame, -radius)
    kind, reason = profile_kind(frame, fwhm, asked=p.kind, least_fwhm=p.least_fwhm)
    size = (frame.nx, frame.ny)
    pixel = sensitive_width(frame, kind)
    try:
        pixels = star_light(context, frame, unit.payload).pixels()
        if 0.0 < pixel < 1.0:
            seed = fitted_seed(pixels, sources.x, sources.y, size, fwhm, radius, pixel)
        else:
            seed = seed_map(size, fwhm, radius, pixel=pixel)
        stars = (sources.x, sources.y, seed)
        fit = fit_psf(pixels, *stars, max_order=p.order, min_snr=p.min_snr, max_stars=p.max_stars, traits=sources.traits(p.terms))
    except AlgorithmFailed as error:
        ellipticity, theta = (shape.ellipticity, shape.theta) if shape is not None else (0.0, 0.0)
        stand_in = seed_map(size, fwhm, radius, ellipticity=ellipticity, theta=theta)
        row = _row(frame, "shape", error.message, stand_in, shape)
        return Output(rows=[_stars(frame, sources, None), Rows(PsfMapRow, row, upsert=True)], remark=error.message)
    row = _row(frame, kind, reason, fit.psf, shape) | {
        "n_star": int(np.count_nonzero(fit.used)),
        "chi2": fit.chi2,
        "held_out": json.dumps([round(value, 5) for value in fit.held_out]),
        "roughness": fit.roughness,
        "terms": " ".join(term.name for term in fit.psf.further),
        "terms_held_out": json.dumps({name: round(value, 5) for name, value in fit.tried.items()}),
    }
    row |= {f"{name}_error": value if np.isfinite(value) else None for name, value in fit.errors._asdict().items()}
    return Output(rows=[_stars(frame, sources, fit), Rows(PsfMapRow, row, upsert=True)])


def _row(frame: Frame, kind: str, reason: str, fitted: PsfMap, shape: ShapeMap | None) -> dict[str, object]:
    middle = ((frame.nx - 1) / 2.0, (frame.ny - 1) / 2.0)
    return {
        "frame_id": frame.frame_id,
        "kind": kind,
        "reason": reason[:160],
        "poly_order": fitted.order,
        "radius": fitted.radius,
        "pixel": fitted.pixel,
        "n_coeff": int(np.count_nonzero(fitted.coeff)),
        "coeff": json.dumps(fitted.to_row()),
        "n_star": 0,
        "chi2": None,
        "held_out": None,
        "roughness": None,
        "terms": "",
        "terms_held_out": None,
        **{f"{name}_error": None for name in MapErrors._fields},
        "fwhm": fitted.fwhm(*middle),
        "shape_fwhm": shape.fwhm if shape is not None else None,
    }


def _stars(frame: Frame, sources: PlacedSources, fit: PsfFit | None) -> Rows:
    place = {"night_id": frame.night_id, "frame_id": frame.frame_id}
    used = fit.used if fit is not None else np.zeros(len(sources), dtype=bool)
    columns = {"source_id": sources.table.source_id[used], **place}
    columns["snr"] = fit.snr if fit is not None else np.zeros(0)
    columns["chi2"] = fit.star_chi2 if fit is not None else np.zeros(0)
    return Rows(PsfStar, columns, replace=place)
