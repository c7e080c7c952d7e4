"""Which master serves which frame: the rule and a person's choices, as the view says them, on both engines."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from templates import make_schema

from db.engine import make_engine
from db.errors import ConfigurationError
from db.tables import Base
from queries.masters import choose_master, list_choices, list_masters, refuse_masters, take_back_choice

NOW = dt.datetime(2026, 1, 1)
JD = 2460000.5


class Nights:
    """Rows put in one by one: what is not said is the same for all."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.n = 0
        self.put("config", config_id=1, kind="step", sha256="c", content="{}")
        self.put("run", run_id=1, command="", version="", host="", started=NOW)
        self.put("instrument", instrument_id=1, name="camera", definition="generic", nx=10, ny=10)
        for setup_id, gain in ((1, 100.0), (2, 200.0)):
            self.put("setup", setup_id=setup_id, instrument_id=1, binning_x=1, binning_y=1, gain_setting=gain)
        for passband_id, name in ((1, "V"), (2, "B")):
            self.put("passband", passband_id=passband_id, name=name)
        for night_id in range(10):
            self.put("night", night_id=night_id, evening=f"2023-03-0{night_id}")

    def put(self, table: str, **values: Any) -> None:
        model = Base.metadata.tables[table]
        rest = {
            c.name: "" if isinstance(c.type, sa.String) else 0 for c in model.c if not c.nullable and not isinstance(c.type, sa.DateTime)
        }
        with self.engine.begin() as connection:
            connection.execute(sa.insert(model).values({**rest, **values}))

    def task(self, step: str, status: str = "done") -> int:
        self.n += 1
        self.put(
            "task", task_id=self.n, step=step, unit=str(self.n), input_hash=f"h{self.n}", config_id=1, run_id=1, status=status, finished=NOW
        )
        return self.n

    def master(self, kind: str, night: int = 0, *, is_bad: int = 0, made_from: int | None = None, **columns: Any) -> int:
        task_id = self.task(kind)
        if made_from is not None:
            self.put("lineage", task_id=task_id, input_task_id=made_from, role="classify")
        self.put("product", product_id=task_id, task_id=task_id, kind=kind, path=f"{kind}/{task_id}", sha256="s", is_bad=is_bad)
        standard = {
            "setup_id": 1,
            "channel": "mono",
            "night_id": night,
            "jd_utc": JD + night,
            "valid_from": JD - 30,
            "valid_until": JD + 30,
        }
        self.put(
            "master",
            **{"master_id": task_id, "kind": kind, "max_ratio": 1.0, "product_id": task_id, "task_id": task_id, **standard, **columns},
        )
        return task_id

    def frame(self, night: int = 0, *, temperature: float | None = None, **columns: Any) -> int:
        frame_id = self.task("ingest")
        self.put(
            "exposure", exposure_id=frame_id, sha256=str(frame_id), path="", mtime_ns=0, instrument_id=1, night_id=night,
            calibration_state="", ccd_temperature=temperature, task_id=frame_id,
        )  # fmt: skip
        standard = {"setup_id": 1, "channel": "mono", "passband_id": 1, "exptime": 60.0, "jd_utc": JD + night}
        self.put("frame", **{"frame_id": frame_id, "exposure_id": frame_id, "instrument_id": 1, "night_id": night, **standard, **columns})
        return frame_id

    def chosen(self, frame_id: int) -> dict[str, tuple[int | None, float]]:
        with self.engine.connect() as connection:
            rows = connection.execute(sa.text("SELECT kind, master_id, scale FROM frame_master WHERE frame_id = :f"), {"f": frame_id}).all()
        assert len({row.kind for row in rows}) == len(rows)
        return {row.kind: (row.master_id, float(row.scale)) for row in rows}

    def master_of(self, kind: str, frame_id: int) -> int | None:
        return self.chosen(frame_id).get(kind, (None, 1.0))[0]


@pytest.fixture
def nights(archive_url: str) -> Iterator[Nights]:
    make_schema(archive_url)
    engine = make_engine(archive_url, writer=True)
    yield Nights(engine)
    engine.dispose()


def test_the_nearest_in_time_of_the_same_set_up_and_channel(nights: Nights) -> None:
    near, far = nights.master("bias", 3), nights.master("bias", 1)
    nights.master("bias", 2, setup_id=2)
    nights.master("bias", 2, channel="R")
    assert nights.chosen(nights.frame(3)) == {"bias": (near, 1.0)}
    assert nights.chosen(nights.frame(0)) == {"bias": (far, 1.0)}
    assert nights.master_of("bias", nights.frame(2, setup_id=2)) not in (near, far, None)


def test_of_two_as_near_the_newer(nights: Nights) -> None:
    nights.master("bias", 1)
    newer = nights.master("bias", 3)
    assert nights.master_of("bias", nights.frame(2)) == newer


def test_outside_its_validity_a_master_serves_nothing(nights: Nights) -> None:
    nights.master("bias", 1, valid_from=JD, valid_until=JD + 2)
    assert nights.chosen(nights.frame(2)) != {}
    assert nights.chosen(nights.frame(3)) == {}


def test_bad_superseded_and_stale_masters_serve_nothing(nights: Nights) -> None:
    nights.master("bias", 1, is_bad=1)
    nights.master("bias", 1, made_from=nights.task("classify", "superseded"))
    assert nights.chosen(nights.frame(1)) == {}
    good = nights.master("bias", 9, made_from=nights.task("classify"))
    assert nights.chosen(nights.frame(1)) == {"bias": (good, 1.0)}


def test_darks_go_by_exposure_time_then_temperature_then_time(nights: Nights) -> None:
    bias = nights.master("bias", 0)
    dark = {"bias_master_id": bias, "temperature_tolerance": 2.0}
    nights.master("dark", 1, exptime=30.0, ccd_temperature=-10.0, **dark)
    warm = nights.master("dark", 1, exptime=60.0, ccd_temperature=-8.5, **dark)
    cold = nights.master("dark", 5, exptime=60.3, ccd_temperature=-10.2, **dark)
    assert nights.chosen(nights.frame(1, temperature=-10.0))["dark"] == (cold, 1.0)
    assert nights.master_of("dark", nights.frame(1, temperature=-7.0)) == warm
    assert nights.master_of("dark", nights.frame(1, temperature=-5.0)) is None
    assert nights.master_of("dark", nights.frame(5)) == cold, "an unknown temperature fits all"


def test_darks_are_scaled_down_alone_within_the_ratio_where_linearity_was_measured(nights: Nights) -> None:
    bias = nights.master("bias", 0)
    short, long = (nights.master("dark", 1, exptime=t, bias_master_id=bias, max_ratio=5.0) for t in (100.0, 300.0))
    frames = {t: nights.frame(1, exptime=t) for t in (400.0, 300.0, 200.0, 80.0, 50.0, 10.0)}
    exact = {t: nights.chosen(frame).get("dark") for t, frame in frames.items()}
    assert exact == {400.0: None, 300.0: (long, 1.0), 200.0: None, 80.0: None, 50.0: None, 10.0: None}
    pair = {"long_master_id": long, "short_master_id": short, "ratio": 3.0, "slope": 3.0, "task_id": 1}
    nights.put("dark_linearity", **pair, is_linear=1)
    scaled = {t: nights.chosen(frame).get("dark") for t, frame in frames.items()}
    assert scaled == {
        400.0: None, 300.0: (long, 1.0), 200.0: (long, pytest.approx(200 / 300)), 80.0: (short, 0.8), 50.0: (short, 0.5), 10.0: None,
    }  # fmt: skip


def test_a_dark_that_carries_the_zero_level_is_never_scaled(nights: Nights) -> None:
    short, long = (nights.master("dark", 1, exptime=t, max_ratio=5.0) for t in (100.0, 300.0))
    nights.put("dark_linearity", long_master_id=long, short_master_id=short, task_id=1, is_linear=1)
    assert nights.chosen(nights.frame(1, exptime=200.0)) == {}
    assert nights.chosen(nights.frame(1, exptime=300.0))["dark"] == (long, 1.0)


def test_flats_go_by_passband_and_those_of_flats_before_those_of_the_sky(nights: Nights) -> None:
    flat = nights.master("flat", 8, passband_id=1)
    nights.master("flat", 1, passband_id=1, from_sky=1)
    blue = nights.master("flat", 1, passband_id=2)
    nights.master("largescale", 1, passband_id=1)
    assert nights.chosen(nights.frame(1)) == {"flat": (flat, 1.0)}
    assert nights.chosen(nights.frame(1, passband_id=2)) == {"flat": (blue, 1.0)}


def test_a_pattern_serves_its_own_night_and_exposure_time(nights: Nights) -> None:
    pattern = nights.master("pattern", 1, exptime=60.0)
    assert nights.chosen(nights.frame(1)) == {"pattern": (pattern, 1.0)}
    assert nights.chosen(nights.frame(2)) == nights.chosen(nights.frame(1, exptime=30.0)) == {}


def test_a_persons_choice_wins_for_a_frame_before_its_night(nights: Nights) -> None:
    own, other, third = (nights.master("flat", night, passband_id=1, valid_from=JD, valid_until=JD + 9) for night in (1, 5, 7))
    frames = nights.frame(1), nights.frame(1)
    blue = nights.frame(1, passband_id=2)
    with Session(nights.engine) as session:
        for_night = choose_master(session, other, "dew", "ann", night="2023-03-01").choice_id
        for_frame = choose_master(session, third, "better", "ann", frame_id=frames[0]).choice_id
        session.commit()
    assert [nights.master_of("flat", frame) for frame in (*frames, blue)] == [third, other, None]
    with Session(nights.engine) as session:
        take_back_choice(session, for_frame)
        session.commit()
        assert list_choices(session)["is_active"].tolist() == [1, 0]
    assert [nights.master_of("flat", frame) for frame in frames] == [other, other]
    with Session(nights.engine) as session:
        take_back_choice(session, for_night)
        refuse_masters(session, "flat", "another window", "ann", frame_id=frames[1])
        session.commit()
    assert [nights.master_of("flat", frame) for frame in frames] == [own, None]
    assert nights.chosen(frames[1]) == {"flat": (None, 1.0)}


def test_a_choice_that_became_bad_gives_way_to_the_rule(nights: Nights) -> None:
    own, other = nights.master("bias", 1), nights.master("bias", 5)
    frame = nights.frame(1)
    with Session(nights.engine) as session:
        choose_master(session, other, "test", "ann", night="2023-03-01")
        session.commit()
    assert nights.master_of("bias", frame) == other
    with nights.engine.begin() as connection:
        connection.execute(sa.text("UPDATE product SET is_bad = 1, bad_reason = 'dew' WHERE product_id = :p"), {"p": other})
    assert nights.master_of("bias", frame) == own
    with Session(nights.engine) as session:
        assert list_masters(session)["state"].tolist() == ["good", "bad: dew"]


def test_a_chosen_dark_serves_exposures_no_longer_than_its_own(nights: Nights) -> None:
    bias = nights.master("bias", 0)
    dark = nights.master("dark", 1, exptime=100.0, bias_master_id=bias)
    frames = [nights.frame(1, exptime=t) for t in (200.0, 100.0, 50.0)]
    with Session(nights.engine) as session:
        choose_master(session, dark, "the only one", "ann", night="2023-03-01")
        session.commit()
    assert [nights.chosen(frame).get("dark") for frame in frames] == [None, (dark, 1.0), (dark, 0.5)]


@pytest.mark.parametrize(
    ("master", "place", "code"),
    [
        (999, {"night": "2023-03-01"}, "master.unknown"),
        (0, {"night": "2023-03-01"}, "master.kind"),
        (1, {"night": "1999-01-01"}, "night.unknown"),
        (1, {"frame_id": 999}, "frame.unknown"),
        (1, {"frame_id": 2}, "master.setup"),
        (1, {}, "choice.place"),
        (1, {"night": "2023-03-01", "frame_id": 1}, "choice.place"),
    ],
)
def test_choices_that_make_no_sense_are_refused(nights: Nights, master: int, place: dict[str, Any], code: str) -> None:
    masters = [nights.master("largescale", 1), nights.master("bias", 1)]
    frames = {1: nights.frame(1), 2: nights.frame(1, setup_id=2)}
    place = {**place, "frame_id": frames.get(place["frame_id"], place["frame_id"])} if "frame_id" in place else place
    with Session(nights.engine) as session, pytest.raises(ConfigurationError) as caught:
        choose_master(session, masters[master] if master < 2 else master, "why", "ann", **place)
    assert caught.value.code == code
