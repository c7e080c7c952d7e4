"""What the views say, against the truth of a small archive and against astropy."""

from __future__ import annotations

from dataclasses import fields

import astropy.units as u
import numpy as np
import pytest
import sqlalchemy as sa
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.time import Time
from astropy.utils import iers
from small_archive import EXPTIME, SITE, SLOTS, SmallArchive, photometry_task
from sqlalchemy.orm import Session

from db.fitted_points import FittedPoints, fitted_points, points_of_night
from db.flags import FLAG_TEXT, Flag
from db.terms import MAP_TERMS, MAPS, TERMS, VARIABLES, correction, correction_sql, design, needed, term_groups


def table(small: SmallArchive, query: str, **parameters: object) -> dict[str, np.ndarray]:
    with small.engine.connect() as connection:
        result = connection.execute(sa.text(query), parameters)
        names = list(result.keys())
        columns = list(zip(*result.all(), strict=True)) or [()] * len(names)
    return {name: np.array([np.nan if v is None else v for v in values]) for name, values in zip(names, columns, strict=True)}


def grid(small: SmallArchive, view: str, column: str, slot: int | None = None) -> np.ndarray:
    """A view's column as an array [frame, source], in the order of ids; NaN where there is no row."""
    where = "" if slot is None else f"WHERE slot = {slot}"
    rows = table(small, f"SELECT frame_id, source_id, {column} AS value FROM {view} {where}")
    out = np.full((len(small.frame_id), len(small.source_id)), np.nan)
    out[np.searchsorted(small.frame_id, rows["frame_id"]), np.searchsorted(small.source_id, rows["source_id"])] = rows["value"]
    return out


def test_magnitudes_are_the_true_ones(small: SmallArchive) -> None:
    true = np.where(small.raw_flux > 0, small.mag, np.nan)
    np.testing.assert_allclose(grid(small, "light_curve", "mag"), true, rtol=0, atol=3e-7)
    for slot in SLOTS:
        np.testing.assert_allclose(grid(small, "light_curve_all", "mag", slot), true, rtol=0, atol=3e-7)


def test_each_source_stands_once_a_frame_in_its_best_slot(small: SmallArchive) -> None:
    rows = table(small, "SELECT source_id, frame_id, slot FROM light_curve")
    assert len(rows["slot"]) == small.mag.size == len(set(zip(rows["source_id"], rows["frame_id"], strict=True)))
    np.testing.assert_array_equal(rows["slot"], small.best_slot[np.searchsorted(small.source_id, rows["source_id"])])
    assert len(table(small, "SELECT slot FROM light_curve_all")["slot"]) == 2 * small.mag.size


def test_errors_are_summed_in_quadrature(small: SmallArchive) -> None:
    photon = 2.5 / np.log(10) * small.raw_flux_err / small.raw_flux
    photon = np.where(small.raw_flux > 0, photon, np.nan)
    np.testing.assert_allclose(grid(small, "light_curve_all", "mag_err", 1), np.hypot(photon, 0.001), rtol=1e-6)
    np.testing.assert_allclose(grid(small, "light_curve_all", "mag_err_total", 1), np.sqrt(photon**2 + 0.001**2 + 0.003**2), rtol=1e-6)
    np.testing.assert_allclose(grid(small, "light_curve_all", "mag_err", 2), np.hypot(1.5 * photon, 0.001), rtol=1e-6)


def test_fluxes_belong_to_the_magnitudes(small: SmallArchive) -> None:
    flux, mag = grid(small, "light_curve", "flux"), grid(small, "light_curve", "mag")
    positive = small.raw_flux > 0
    np.testing.assert_allclose(25 - 2.5 * np.log10(flux[positive] / EXPTIME), mag[positive], rtol=0, atol=1e-9)
    assert flux[~positive].max() < 0 and np.isnan(mag[~positive]).all() and (~positive).sum() == 1


def test_flagged_points_have_quality_1(small: SmallArchive) -> None:
    suspect = int(Flag.SATURATED | Flag.BAD_PIXEL | Flag.COSMIC)
    np.testing.assert_array_equal(grid(small, "light_curve", "quality"), (small.flags & suspect != 0).astype(float))
    np.testing.assert_array_equal(grid(small, "light_curve", "flags"), small.flags)


def test_times_and_airmass_are_astropys(small: SmallArchive) -> None:
    site = EarthLocation.from_geodetic(SITE[1] * u.deg, SITE[0] * u.deg, SITE[2] * u.m)
    sources = [0, 17, 39]
    bjd, airmass = grid(small, "light_curve", "bjd_tdb"), grid(small, "light_curve", "airmass")
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("auto_max_age", None):
        time = Time(small.jd_utc, format="jd", scale="utc", location=site)
        for k in sources:
            star = SkyCoord(small.ra[k] * u.deg, small.dec[k] * u.deg)
            seconds = (time.tdb + time.light_travel_time(star, ephemeris="builtin") - Time(bjd[:, k], format="jd", scale="tdb")).to_value(
                u.s
            )
            assert np.abs(seconds).max() < 1e-3
            high = star.transform_to(AltAz(obstime=time, location=site)).secz.value
            np.testing.assert_allclose(airmass[:, k], high, rtol=0, atol=1e-3)
    assert np.ptp(bjd, axis=1).max() * 86400 > 0.5  # one time for all stars of a frame would not do


def test_an_unknown_site_has_no_airmass_and_still_magnitudes(fresh: SmallArchive) -> None:
    with fresh.engine.begin() as connection:
        connection.execute(sa.text("UPDATE frame SET zx = NULL, zy = NULL, zz = NULL WHERE frame_id = 1"))
        connection.execute(sa.text("UPDATE frame_field SET airmass = NULL WHERE frame_id = 1"))
    assert np.isnan(grid(fresh, "light_curve", "airmass")[0]).all()
    np.testing.assert_allclose(grid(fresh, "light_curve", "mag")[0], fresh.mag[0], rtol=0, atol=3e-7)


def every_term(fresh: SmallArchive, frame: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Give the archive coefficients of all terms, and places, colours, backgrounds and maps; what they are, for the stars of a frame."""
    rng = np.random.default_rng(8)
    n = len(fresh.source_id)
    x, y, sky = (v.astype(np.float32) for v in (rng.uniform(0, 649, n), rng.uniform(0, 499, n), rng.normal(200, 5, n)))
    coefficients = {term.column: float(value) for term, value in zip(TERMS, rng.normal(0, 0.1, len(TERMS)), strict=True)}
    polynomials = {name: rng.normal(0, 0.1, len(MAP_TERMS)) for name in MAPS}
    with fresh.engine.begin() as connection:
        for k, source in enumerate(fresh.source_id.tolist()):
            place = {"x": float(x[k]), "y": float(y[k]), "b": float(sky[k]), "s": source}
            for name in ("open_measurement", "closed_measurement"):
                connection.execute(sa.text(f"UPDATE {name} SET x = :x, y = :y, background = :b WHERE source_id = :s"), place)
            connection.execute(
                sa.text("UPDATE source SET fit_colour = :c, fit_mag = :m WHERE source_id = :s"), {"c": 0.1 * k, "m": 9.0 + k, "s": source}
            )
        connection.execute(sa.text("UPDATE frame_background SET level = 190.0, noise = 4.0"))
        values = ", ".join(f"{name} = :{name}" for name in coefficients)
        connection.execute(sa.text(f"UPDATE magfit_solution SET {values}, term_groups = {term_groups(TERMS)}"), coefficients)
        for name, polynomial in polynomials.items():
            columns = ", ".join(f"p_{term.name}" for term in MAP_TERMS)
            row = ", ".join(repr(float(value)) for value in polynomial)
            connection.exec_driver_sql(
                f"INSERT INTO magfit_map (reference_id, frame_id, name, {columns}) "
                f"SELECT DISTINCT reference_id, frame_id, '{name}', {row} FROM magfit_solution"
            )
    phases = {f"{f.__name__}_{axis}": f(2 * np.pi * v.astype(float)) for f in (np.sin, np.cos) for axis, v in (("x", x), ("y", y))}
    variables = phases | {
        "X": (2.0 * x.astype(float) + 1) / 650 - 1,
        "Y": (2.0 * y.astype(float) + 1) / 500 - 1,
        "colour": 0.1 * np.arange(n) - 0.8,
        "mag": 9.0 + np.arange(n) - 12.0,
        "airmass": fresh.airmass[frame] - float(fresh.airmass[frame].mean()),
        "background": (sky.astype(float) - 190.0) / 4.0,
    }
    return coefficients, variables | {name: design(variables, MAP_TERMS) @ polynomial for name, polynomial in polynomials.items()}


def test_every_term_of_the_view_is_that_of_the_fit(fresh: SmallArchive) -> None:
    frame = 2
    coefficients, variables = every_term(fresh, frame)
    assert set(variables) == {*VARIABLES, *MAPS}
    expected = design(variables, TERMS) @ np.array(list(coefficients.values()))
    assert np.abs(expected).max() > 0.1
    instrumental = 25 - 2.5 * np.log10(fresh.raw_flux[frame] / EXPTIME)
    np.testing.assert_allclose(grid(fresh, "light_curve_all", "mag", 1)[frame], instrumental - expected, rtol=0, atol=3e-7)
    n = len(fresh.source_id)
    twin = correction({name: np.full(n, value) for name, value in coefficients.items()}, variables)
    np.testing.assert_allclose(twin, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("group", sorted({term.group for term in TERMS}))
def test_a_group_that_a_solution_does_not_say_is_not_evaluated(fresh: SmallArchive, group: int) -> None:
    frame = 2
    coefficients, variables = every_term(fresh, frame)
    with fresh.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE magfit_solution SET term_groups = {group}"))
    terms = tuple(term for term in TERMS if term.group in (0, group))
    assert term_groups(terms) == group
    expected = design(variables, terms) @ np.array([coefficients[term.column] for term in terms])
    instrumental = 25 - 2.5 * np.log10(fresh.raw_flux[frame] / EXPTIME)
    np.testing.assert_allclose(grid(fresh, "light_curve_all", "mag", 1)[frame], instrumental - expected, rtol=0, atol=3e-7)


def points_of(session: Session, field_id: int, reference_id: int) -> dict[int, FittedPoints]:
    """The points of all nights, by slot."""
    nights = session.execute(sa.text("SELECT night_id FROM night ORDER BY night_id")).scalars().all()
    found: dict[int, list[FittedPoints]] = {}
    for night_id in nights:
        for slot, points in fitted_points(session.connection(), points_of_night(field_id, reference_id, night_id)):
            found.setdefault(slot, []).append(points)
    names = [each.name for each in fields(FittedPoints) if each.name != "others"]
    return {slot: FittedPoints(*(np.concatenate([getattr(p, n) for p in some]) for n in names)) for slot, some in found.items()}


def test_arrays_have_the_views_digits_with_every_term_and_with_some(fresh: SmallArchive) -> None:
    every_term(fresh, 2)
    for unused in ((), ("c_psf_peak", "c_shape_d", "c_xxyy", "c_background", "c_airmass"), tuple(t.column for t in TERMS if t.group)):
        with fresh.engine.begin() as connection:
            if unused:
                connection.execute(sa.text("UPDATE magfit_solution SET " + ", ".join(f"{name} = 0.0" for name in unused)))
        rows = table(fresh, "SELECT source_id, bjd_tdb, mag, mag_err_total FROM light_curve_all WHERE slot = 1 AND ref_id = 2")
        with Session(fresh.engine) as session:
            points = points_of(session, 1, 2)[1]
        order, other = np.lexsort((rows["bjd_tdb"], rows["source_id"])), np.lexsort((points.bjd_tdb, points.source_id))
        np.testing.assert_array_equal(points.source_id[other], rows["source_id"][order])
        # Powers and logarithms of numpy may differ in the last digit from the database's.
        np.testing.assert_allclose(points.mag[other], rows["mag"][order].astype(float), rtol=0, atol=1e-13)


def test_what_no_solution_uses_is_not_looked_up(fresh: SmallArchive) -> None:
    """The tables of maps and backgrounds may even be unreadable."""
    with fresh.engine.begin() as connection:
        connection.execute(sa.text("UPDATE magfit_solution SET term_groups = 3"))
        if fresh.engine.dialect.name == "postgresql":
            plan = "\n".join(connection.execute(sa.text("EXPLAIN (ANALYZE, COSTS OFF) SELECT mag FROM light_curve_all")).scalars())
    if fresh.engine.dialect.name == "postgresql":
        lookups = [line for line in plan.splitlines() if "magfit_map" in line or "frame_background" in line]
        assert len(lookups) == len(MAPS) + 1
        assert all("never executed" in line for line in lookups)


def test_only_what_terms_need_is_named() -> None:
    by_name = {term.name: term for term in TERMS}
    assert needed((by_name["const"],)) == ()
    assert needed((by_name["xy"], by_name["airmass_colour"])) == ("X", "Y", "colour", "airmass")
    assert needed((by_name["psf_peak"],)) == ("X", "Y", "psf_peak")


def test_the_correction_names_every_coefficient_once() -> None:
    text = correction_sql("q")
    assert [text.count(f"q.{term.column} ") + text.count(f"q.{term.column})") for term in TERMS] == [1] * len(TERMS)


def test_new_fluxes_never_meet_old_coefficients(fresh: SmallArchive) -> None:
    with fresh.engine.begin() as connection:
        connection.execute(sa.text("UPDATE frame_photometry SET task_id = 1 WHERE frame_id = 1"))
        connection.execute(sa.text("DELETE FROM frame_photometry WHERE frame_id = 2"))
    seen = table(fresh, "SELECT DISTINCT frame_id FROM light_curve_all")["frame_id"]
    assert set(fresh.frame_id.tolist()) - set(seen.tolist()) == {1, 2}
    with fresh.engine.begin() as connection:
        connection.execute(sa.text("UPDATE magfit_solution SET measure_task = 1 WHERE frame_id = 1"))
    assert 1 in table(fresh, "SELECT DISTINCT frame_id FROM light_curve")["frame_id"]
    assert int(photometry_task(1)) != 9999


def test_a_retracted_reference_hands_back_to_the_one_before(fresh: SmallArchive) -> None:
    def latest() -> dict[int, int]:
        rows = table(fresh, "SELECT field_id, reference_id FROM latest_reference")
        return dict(zip(rows["field_id"].tolist(), rows["reference_id"].tolist(), strict=True))

    assert latest() == {1: 2, 2: 3}
    before = grid(fresh, "light_curve", "mag")
    terms = ", ".join(term.column for term in TERMS)
    others = "slot, fold, measure_task, n_term, term_groups, n_fit, fit_rms, zero_point_err, mag_floor, task_id"
    with fresh.engine.begin() as connection:
        columns = "field_id, iteration, frame_id, n_frame, n_source, n_zero, created, is_held, reason, n_night, is_settled, parameters"
        connection.execute(
            sa.text(
                f"INSERT INTO magfit_reference (reference_id, status, parent_id, accepted, task_id, {columns})"
                f" SELECT 4, 'iteration', 2, accepted, task_id, {columns} FROM magfit_reference WHERE reference_id = 2"
            )
        )
        connection.execute(
            sa.text(
                f"INSERT INTO magfit_solution (frame_id, reference_id, {others}, {terms})"
                f" SELECT frame_id, 4, {others}, {terms.replace('c_const', 'c_const + 1.0', 1)} FROM magfit_solution WHERE reference_id = 2"
            )
        )
        connection.execute(sa.text("INSERT INTO best_slot SELECT 4, source_id, slot, fold FROM best_slot WHERE reference_id = 2"))
    np.testing.assert_array_equal(grid(fresh, "light_curve", "mag"), before)  # on the way, it is not looked at
    for status, reference, shift in (("accepted", 4, 1.0), ("retracted", 2, 0.0)):
        with fresh.engine.begin() as connection:
            connection.execute(sa.text("UPDATE magfit_reference SET status = :status WHERE reference_id = 4"), {"status": status})
        assert latest() == {1: reference, 2: 3}
        moved = np.where((fresh.field_id == 1)[:, None], shift, 0.0)
        np.testing.assert_allclose(grid(fresh, "light_curve", "mag"), before - moved, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE product SET is_bad = 1 WHERE product_id = 1",
        "UPDATE product SET superseded_by = 2 WHERE product_id = 1",
        "UPDATE task SET status = 'superseded' WHERE task_id = 2",
    ],
)
def test_good_masters_are_good(fresh: SmallArchive, change: str) -> None:
    assert table(fresh, "SELECT path FROM good_master")["path"].tolist() == ["bias/1.fits"]
    with fresh.engine.begin() as connection:
        connection.execute(sa.text(change))
    assert table(fresh, "SELECT path FROM good_master")["path"].tolist() == []


def test_what_was_made_from_a_superseded_task_is_stale(fresh: SmallArchive) -> None:
    assert table(fresh, "SELECT task_id FROM stale_product")["task_id"].tolist() == []
    with fresh.engine.begin() as connection:
        connection.execute(sa.text("UPDATE task SET status = 'superseded' WHERE step = 'calibrate' AND frame_id = 3"))
    rows = table(fresh, "SELECT task_id, step FROM stale_product")
    assert set(zip(rows["task_id"].tolist(), rows["step"].tolist(), strict=True)) == {(33, "photometry"), (5, "magnitude_fit")}


def test_frame_quality_has_every_frame_once(fresh: SmallArchive) -> None:
    with fresh.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM wcs_solution WHERE frame_id = 1"))
        connection.execute(sa.text("DELETE FROM magfit_solution WHERE frame_id = 2"))
    rows = table(fresh, "SELECT frame_id, evening, path, n_matched, fit_rms, zero_point FROM frame_quality ORDER BY frame_id")
    np.testing.assert_array_equal(rows["frame_id"], fresh.frame_id)
    assert rows["evening"][0] == "2017-12-19" and rows["path"][1] == "/night/002.fits"
    assert np.isnan(rows["n_matched"][0]) and np.isnan(rows["fit_rms"][1])
    np.testing.assert_allclose(rows["fit_rms"][2:], fresh.fit_rms[2:])


def test_flag_bits_have_the_names_of_the_code(small: SmallArchive) -> None:
    rows = table(small, "SELECT bit, name, meaning FROM flag_bit")
    assert {int(bit): (name, text) for bit, name, text in zip(*rows.values(), strict=True)} == {
        int(flag): (flag.name, FLAG_TEXT[flag]) for flag in Flag
    }


def test_points_as_arrays_are_those_of_the_view(small: SmallArchive) -> None:
    columns = ("source_id", "bjd_tdb", "mag", "mag_err", "mag_err_total", "quality")
    with Session(small.engine) as session:
        fields = session.execute(sa.text("SELECT field_id, reference_id FROM latest_reference")).all()
        found = [(field_id, *points) for field_id, reference_id in fields for points in points_of(session, field_id, reference_id).items()]
    assert {slot for _, slot, _ in found} == set(SLOTS)
    for field_id, slot, points in found:
        seen = table(small, f"SELECT {', '.join(columns)} FROM light_curve_all WHERE field_id = {field_id} AND slot = {slot}")
        ours, theirs = np.lexsort((points.bjd_tdb, points.source_id)), np.lexsort((seen["bjd_tdb"], seen["source_id"]))
        assert len(ours) == len(theirs)
        for name in columns if len(ours) else ():
            np.testing.assert_allclose(getattr(points, name)[ours], seen[name][theirs], rtol=1e-15, atol=0)
