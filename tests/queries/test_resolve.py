"""From what a person types to a source."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from small_archive import SmallArchive

from db.errors import ConfigurationError
from db.sky import nearest_source
from queries.resolve import _angle, resolve, resolve_position


def test_ids_names_and_positions(small: SmallArchive) -> None:
    source, ra, dec = int(small.source_id[7]), float(small.ra[7]), float(small.dec[7])
    with small.engine.connect() as connection:
        for what in (source, str(source), "TYC 3281-7-1", "tyc  3281-7-1", f"{ra} {dec}", f"Gaia DR3 {source}", f"gaia {source}"):
            found = resolve(connection, what)
            assert (found.source_id, found.ra, found.dec) == (source, ra, dec)
            assert found.mag == pytest.approx(10.7)
        assert resolve(connection, source).separation is None
        assert resolve(connection, f"{ra} {dec + 3 / 3600}").separation == pytest.approx(3.0, abs=1e-6)
        assert resolve(connection, f"{ra} {dec}").name == "TYC 3281-7-1"


def test_a_target_goes_before_a_catalogue_name(small: SmallArchive) -> None:
    with small.engine.connect() as connection:
        for what in ("HAT-P-32 b", "hat-p-32 B", "  HAT-P-32   b "):
            found = resolve(connection, what)
            assert (found.source_id, found.name) == (small.target, "HAT-P-32 b")


def test_a_target_without_source_is_found_by_its_position(fresh: SmallArchive) -> None:
    with fresh.engine.begin() as connection:
        connection.execute(sa.text("UPDATE target SET source_id = NULL WHERE target_id = 1"))
        found = resolve(connection, "HAT-P-32 b")
        assert (found.source_id, found.name) == (fresh.target, "HAT-P-32 b")
        connection.execute(sa.text("UPDATE target SET dec = dec - 1 WHERE target_id = 1"))
        with pytest.raises(ConfigurationError, match=r"^HAT-P-32 b: no source within 10 arcsec"):
            resolve(connection, "HAT-P-32 b")


def test_the_nearest_with_a_light_curve_is_taken(fresh: SmallArchive) -> None:
    near = int(fresh.source_id[2])
    ra, dec = float(fresh.ra[2]), float(fresh.dec[2])
    with fresh.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM best_slot WHERE source_id = :near"), {"near": near})
        assert nearest_source(connection, ra, dec, 120.0 / 3600.0) not in (near, None)
        assert nearest_source(connection, ra, -dec, 1.0) is None
        assert resolve_position(connection, ra, dec, radius=10.0).source_id == near  # better than none
        found = resolve_position(connection, ra, dec, radius=120.0)
        assert found.source_id != near and found.separation is not None and 10 < found.separation < 120


def test_what_is_near_is_said(small: SmallArchive) -> None:
    ra, dec = float(small.ra[0]), float(small.dec[0])
    with small.engine.connect() as connection:
        with pytest.raises(ConfigurationError) as caught:
            resolve(connection, f"{ra} {dec - 0.01}")
        text = str(caught.value)
        assert "\n" not in text and "no source within 10 arcsec" in text
        assert f"{small.target} at 36.0 arcsec (mag 10.00)" in text and text.count(" at ") == 3 and "--radius" in text
        assert caught.value.exit_code == 2
        assert resolve(connection, f"{ra} {dec - 0.01}", radius=40.0).source_id == small.target
        with pytest.raises(ConfigurationError, match=r"at \d+\.\d\d deg"):
            resolve(connection, "210.5 -60.0")


@pytest.mark.parametrize("what", ["rubbish", "", "12345", "99999999999999999999", "HIP 123", "'; DROP TABLE source; --", "%", "hat-p-33"])
def test_junk_is_refused_in_one_line(what: str, small: SmallArchive) -> None:
    with small.engine.connect() as connection, pytest.raises(ConfigurationError) as caught:
        resolve(connection, what)
    assert caught.value.code == "source.unknown" and "\n" not in str(caught.value)


def test_a_likely_name_is_offered(small: SmallArchive) -> None:
    with small.engine.connect() as connection, pytest.raises(ConfigurationError, match="do you mean 'hat-p-32 b'"):
        resolve(connection, "hat-p32b")


def test_an_archive_without_sources_says_so(fresh: SmallArchive) -> None:
    with fresh.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM source"))
        with pytest.raises(ConfigurationError, match="no sources yet"):
            resolve(connection, "10 10")


@pytest.mark.parametrize(
    ("arcsec", "text"),
    [(0.0, "0.0 arcsec"), (599.9, "599.9 arcsec"), (600.0, "0.17 deg"), (600.5, "0.17 deg"), (180 * 3600.0, "180.00 deg")],
)
def test_an_angle_is_said_in_the_unit_of_its_size(arcsec: float, text: str) -> None:
    assert _angle(arcsec) == text
