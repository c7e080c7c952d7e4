"""Terms that are maps of the frames: fitted, kept with the reference, and the same in the view as in arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sqlalchemy as sa
from mini_night import N_OBJECT, Work
from sqlalchemy.orm import Session

from db.engine import make_engine
from db.fitted_points import fitted_points, points_of_night
from db.tables import ShapeMap
from db.terms import MAP_TERMS, MAPS, design
from reduction.lightcurves.map_terms import frame_maps
from reduction.photometry.psf_model import psf_map_of
from reduction.photometry.shape_model import shape_map_of


def test_polynomials_are_the_maps_less_their_mean(reduced: Work):
    engine = make_engine(reduced.url)
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(0, 287, 9), np.linspace(0, 223, 9)))
    variables = {"X": (2 * x + 1) / 288 - 1, "Y": (2 * y + 1) / 224 - 1}
    with Session(engine) as session:
        frames = [row[0] for row in reduced.sql("SELECT frame_id FROM frame_photometry ORDER BY frame_id")]
        maps = frame_maps(session, frames, ["shape_s", "shape_k", "psf_peak"])
        assert list(maps.polynomials) == ["shape_s", "shape_k", "psf_peak"]
        for k, frame_id in enumerate(frames):
            p, _, r = shape_map_of(session, frame_id).logarithm(x, y)
            profile = psf_map_of(session, frame_id)
            peak = np.log([profile.response(u, v, np.zeros(1), np.zeros(1))[0, 0] for u, v in zip(x, y, strict=True)])
            for name, expected in (("shape_s", p), ("shape_k", r), ("psf_peak", peak)):
                found = maps.variables(np.full(x.size, k), variables["X"], variables["Y"])[name]
                np.testing.assert_allclose(found, expected - expected.mean(), rtol=0, atol=1e-4 if name == "psf_peak" else 1e-10)
                np.testing.assert_allclose(found, design(variables, MAP_TERMS) @ maps.polynomials[name][k], rtol=0, atol=1e-12)
        assert frame_maps(session, frames, []).rows(1) == []
    engine.dispose()


def test_a_frame_without_a_shape_map_has_the_same_shapes_everywhere(reduced: Work):
    engine = make_engine(reduced.url, writer=True)
    with Session(engine) as session:
        frames = list(session.scalars(sa.select(ShapeMap.frame_id).order_by(ShapeMap.frame_id)))
        whole = frame_maps(session, frames, MAPS)
        session.execute(sa.delete(ShapeMap).where(ShapeMap.frame_id == frames[1]))
        maps = frame_maps(session, frames, MAPS)
        session.rollback()
    engine.dispose()
    for name in MAPS:
        expected = whole.polynomials[name].copy()
        expected[1] *= name == "psf_peak"
        np.testing.assert_array_equal(maps.polynomials[name], expected)


def test_a_fit_with_maps_is_what_the_view_shows(reduced: Work, tmp_path: Path):
    config = tmp_path / "maps.toml"
    config.write_text('[magnitude_fit]\norder = 1\nterms = ["shape_s", "background", "psf_peak"]\n')
    reduced.worked([], catalogues=[], config=config)
    (reference,) = reduced.sql("SELECT reference_id, field_id FROM latest_reference")
    solutions = reduced.sql(
        "SELECT term_groups, c_shape_s, c_psf_peak, c_background, c_shape_d FROM magfit_solution WHERE reference_id = :r", r=reference[0]
    )
    groups, shape, peak, background, unused = np.array(solutions).T
    assert set(groups) == {4 + 8 + 64}
    # A map that is the same all over a frame has no say.
    assert np.abs(background).max() > 0, (np.abs(shape).max(), np.abs(peak).max())
    assert not unused.any()
    kept = reduced.sql("SELECT name, count(*) FROM magfit_map WHERE reference_id = :r GROUP BY name ORDER BY name", r=reference[0])
    assert kept == [("psf_peak", N_OBJECT), ("shape_s", N_OBJECT)]
    engine = make_engine(reduced.url)
    with Session(engine) as session:
        (night_id,) = session.execute(sa.text("SELECT night_id FROM night")).scalars()
        slot, points = next(iter(fitted_points(session.connection(), points_of_night(reference[1], reference[0], night_id))))
    engine.dispose()
    rows = reduced.sql("SELECT source_id, bjd_tdb, mag FROM light_curve_all WHERE slot = :slot AND mag IS NOT NULL", slot=slot)
    shown = {(source, bjd): mag for source, bjd, mag in rows}
    fitted = {
        (source, bjd): mag
        for source, bjd, mag in zip(points.source_id.tolist(), points.bjd_tdb.tolist(), points.mag.tolist(), strict=True)
        if np.isfinite(mag)
    }
    assert shown.keys() == fitted.keys()
    np.testing.assert_allclose([shown[key] for key in shown], [fitted[key] for key in shown], rtol=0, atol=1e-13)
