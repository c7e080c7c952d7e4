"""The light curve of a target's position: scale, magnitudes and nights of known fluxes, and files of many targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from small_archive import NOW, SmallArchive, analyse, photometry_task

from db.bulk import bulk_insert
from db.errors import ConfigurationError, NothingToDo
from db.tables import Base
from db.terms import TERMS
from queries.lightcurve import light_curve
from queries.target_curve import NIGHT_COLUMNS, TargetCurve, find_target_curve, nightly
from queries.targets import remove_target, target_named
from starledger.archive import Archive


def measured(small: SmallArchive) -> None:
    """Target 1, source 0, with the fluxes of slot 1; target 3, no source, with fluxes -30, -20 ... ADU; both in a slot 0 like slot 1."""
    coefficients = ", ".join(term.column for term in TERMS)
    columns = "frame_id, reference_id, fold, measure_task, n_term, term_groups, n_fit, fit_rms, zero_point_err, mag_floor, task_id"
    columns = f"{columns}, {coefficients}"
    n = len(small.frame_id)
    with small.engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO magfit_solution (slot, {columns}) SELECT 0, {columns} FROM magfit_solution WHERE slot = 1")
        target: dict[str, Any] = {"target_id": [3], "name": np.array(["dark"], dtype=object), "ra": [31.2], "dec": [46.75]}
        bulk_insert(connection, Base.metadata.tables["target"], {**target, "created": np.array([NOW], dtype=object)})
        common = {"night_id": small.night_id, "frame_id": small.frame_id, "y": 100.0, "background": 20.0, "background_err": 0.1,
                  "chi2": 1.0, "neighbour_flux": 0.0, "task_id": photometry_task(small.frame_id)}  # fmt: skip
        rows = Base.metadata.tables["target_measurement"]
        star = {"target_id": 1, "source_id": np.full(n, small.target, dtype=object), "flags": small.flags[:, 0], "x": 20.0}
        bulk_insert(connection, rows, {**common, **star, "flux": small.raw_flux[:, 0], "flux_err": small.raw_flux_err[:, 0]})
        nothing = {"target_id": 3, "source_id": np.full(n, None, dtype=object), "flags": 32, "x": 324.5}
        bulk_insert(connection, rows, {**common, **nothing, "flux": dark_flux(n), "flux_err": 20.0})
    analyse(small.engine)


def dark_flux(n: int) -> np.ndarray:
    return -30.0 + 10.0 * np.arange(n)


def curve(small: SmallArchive, target_id: int) -> TargetCurve:
    from db.tables import Target

    with sa.orm.Session(small.engine) as session:
        return find_target_curve(session.connection(), session.get_one(Target, target_id))


def test_a_source_has_the_light_curve_of_its_slot(fresh: SmallArchive) -> None:
    measured(fresh)
    found = curve(fresh, 1).frame
    with fresh.engine.connect() as connection:
        wanted = light_curve(connection, fresh.target, slot=1)
    assert found["frame_id"].tolist() == wanted["frame_id"].tolist() and (found["source_id"] == fresh.target).all()
    for name in ("bjd_tdb", "mag", "mag_err", "airmass", "quality", "fwhm", "ref_id"):
        np.testing.assert_allclose(found[name].to_numpy(dtype=float), wanted[name], rtol=1e-9, atol=2e-9)
    np.testing.assert_allclose(found["flux_cal"], wanted["flux"] / 60.0, rtol=1e-9)
    order = np.argsort(fresh.bjd_tdb[:, 0])
    np.testing.assert_allclose(found["mag"], fresh.mag[order, 0], atol=3e-7)


def test_where_no_star_is_the_scale_is_that_of_the_frame(fresh: SmallArchive) -> None:
    measured(fresh)
    points = curve(fresh, 3)
    found = points.frame.sort_values("frame_id")
    n = len(fresh.frame_id)
    # middle of the frame, a star of the pivots' colour, fold 0: the constant alone
    scale = 10 ** (0.4 * fresh.zero_point) / 60.0
    np.testing.assert_allclose(found["flux_cal"], dark_flux(n) * scale, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found["flux_cal_err"], scale * np.hypot(20.0, dark_flux(n) * 0.001 / 1.0857362), rtol=1e-6)
    positive = dark_flux(n) > 0
    assert found["mag"].notna().tolist() == positive.tolist() == found["mag_err"].notna().tolist()
    np.testing.assert_allclose(found["mag"][positive], 25 - 2.5 * np.log10(dark_flux(n)[positive] * scale[positive]), atol=1e-6)
    assert found["source_id"].isna().all() and points.meta["references"] == [2, 3]


def test_points_go_with_their_task_and_their_target(fresh: SmallArchive) -> None:
    measured(fresh)
    with fresh.engine.begin() as connection:
        connection.execute(sa.text("UPDATE task SET status = 'superseded' WHERE task_id = :id"), {"id": int(photometry_task(2))})
    assert 2 not in curve(fresh, 1).frame["frame_id"].tolist()
    with sa.orm.Session(fresh.engine) as session:
        assert remove_target(session, " DARK ").target_id == 3
        session.commit()
        with pytest.raises(ConfigurationError, match="no target of this name"):
            target_named(session, "dark")
        with pytest.raises(ConfigurationError, match="do you mean 'hat-p-32 b'"):
            target_named(session, "hat p 32 b")
        left = session.execute(sa.text("SELECT count(*) FROM target_measurement WHERE target_id = 3")).scalar()
    assert left == 0 and len(curve(fresh, 1).frame) == len(fresh.frame_id) - 1
    with pytest.raises(NothingToDo, match="no measurement of target no ephemeris"):
        curve(fresh, 2)


def test_without_a_reference_there_are_fluxes_and_no_scale(fresh: SmallArchive) -> None:
    measured(fresh)
    with fresh.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE magfit_reference SET status = 'retracted'")
    points = curve(fresh, 3)
    assert points.frame["flux"].tolist() and points.frame[["flux_cal", "mag"]].isna().all(axis=None)
    assert points.nights.empty and list(points.nights) == list(NIGHT_COLUMNS)


def points(flux: list[float], error: list[float], **columns: Any) -> pd.DataFrame:
    n = len(flux)
    given = {"night_id": 1, "field_id": 1, "passband": "V", "quality": 0, "bjd_tdb": 2460000.0 + 0.1 * np.arange(n)}
    return pd.DataFrame({**given, "flux_cal": flux, "flux_cal_err": error, **columns})


def test_the_mean_of_a_night() -> None:
    (night,) = nightly(points([1.0, 4.0, np.nan, 100.0], [1.0, 2.0, 1.0, 0.1], quality=[0, 0, 0, 1])).to_dict("records")
    assert night["n_point"] == 2 and night["flux_cal"] == pytest.approx((1.0 + 4.0 / 4) / 1.25)
    assert night["flux_cal_err"] == pytest.approx(1.25**-0.5) and night["snr"] == pytest.approx(1.6 * 1.25**0.5)
    assert night["chi2"] == pytest.approx(0.6**2 + (2.4 / 2) ** 2) and night["bjd_tdb"] == pytest.approx(2460000.02, abs=1e-9)
    assert np.isnan(night["mag"]) and night["limit_mag"] == pytest.approx(25 - 2.5 * np.log10(3 * 1.25**-0.5))
    rows = nightly(points([9.0, 9.0, -9.0], [1.0, 1.0, 1.0], night_id=[2, 2, 1], passband=["V", "R", "V"]))
    assert rows[["night_id", "passband", "n_point"]].to_numpy().tolist() == [[2, "V", 1], [2, "R", 1], [1, "V", 1]]
    assert rows["mag"].notna().tolist() == [True, True, False] and rows["chi2"].isna().all()
    assert rows["mag_err"][0] == pytest.approx(1.0857362 / 9.0)


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("name,ra\na,1.0\n", "target.file", "no column dec"),
        ("", "target.file", "the file is empty"),
        ("name,ra,dec,duration\na,1.0,2.0,\nb,1.0,9.0,-1\n", "target.value", "line 3"),
        ("name,ra,dec\na,1.0,2.0\n\n# b\nA,1.0,2.0\n", "target.exists", "line 5"),
        ("name,ra,dec,period\na,1.0,2.0,often\n", "target.file", "line 2"),
        ("name,ra,dec\na,x,2.0\n", "position.format", "line 2"),
    ],
)
def test_a_file_that_cannot_be_adds_nothing(fresh: SmallArchive, tmp_path: Path, text: str, code: str, said: str) -> None:
    (tmp_path / "many.csv").write_text(text)
    archive = Archive(fresh.engine, tmp_path, writer=True)
    with pytest.raises(ConfigurationError, match=said) as caught:
        archive.targets.add_file(tmp_path / "many.csv")
    assert caught.value.code == code and len(archive.targets.list()) == 2
    with pytest.raises(ConfigurationError, match="No such file"):
        archive.targets.add_file(tmp_path / "none.csv")


def test_files_by_comma_semicolon_or_blank(fresh: SmallArchive, tmp_path: Path) -> None:
    archive = Archive(fresh.engine, tmp_path, writer=True)
    (tmp_path / "a.csv").write_text('name,ra,dec,epoch,period,duration\n"x, y", 02:04:10.2 , +46:41:16 ,2450000.5,2.5,\n')
    (tmp_path / "b.csv").write_text('name ra dec\n"b 1" 10.5 -20.25\nb2 11.5 -21.25\n')
    (one,) = archive.targets.add_file(tmp_path / "a.csv")
    assert (one.name, one.epoch, one.period, one.duration) == ("x, y", 2450000.5, 2.5, None)
    assert one.ra == pytest.approx(31.0425) and one.dec == pytest.approx(46.68778, abs=1e-5)
    assert [(row.name, row.ra, row.dec) for row in archive.targets.add_file(tmp_path / "b.csv")] == [
        ("b 1", 10.5, -20.25),
        ("b2", 11.5, -21.25),
    ]


def test_a_quoted_name_over_two_lines_is_one_row(fresh: SmallArchive, tmp_path: Path) -> None:
    archive = Archive(fresh.engine, tmp_path, writer=True)
    (tmp_path / "a.csv").write_text('name,ra,dec\n"two\nlines",10.5,20\nnext,11,21\n')
    assert [row.ra for row in archive.targets.add_file(tmp_path / "a.csv")] == [10.5, 11.0]
    (tmp_path / "b.csv").write_text('name,ra,dec\n"one\nmore",12,22\nbad,x,23\n')
    with pytest.raises(ConfigurationError, match="no position") as caught:
        archive.targets.add_file(tmp_path / "b.csv")
    assert str(caught.value.where).endswith("line 4")
