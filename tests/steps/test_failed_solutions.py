"""Frames that cannot be solved are named for what is the matter with them, and do not stop the night."""

from __future__ import annotations

import datetime as dt
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from mini_night import Night, Work
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, gaussian_filter

from db.errors import StarledgerError
from reduction.astrometry import solve_step
from reduction.astrometry.kernels.start import Pointing
from reduction.astrometry.search import Search, StarImages
from reduction.frames.kernels.bayer import Channel
from reduction.pipeline.declaration import Step, Unit
from reduction.pipeline.order import STEPS
from reduction.pipeline.scheduler import Tally

Image = NDArray[np.float64]
SOLVED = list(STEPS)[: list(STEPS).index("solve") + 1]


def write_like(original: Path, target: Path, pixels: Image, minutes: float) -> None:
    """A frame with the header of another, taken later."""
    header = fits.getheader(original)
    keyword = "DATE-OBS"
    header[keyword] = (dt.datetime.fromisoformat(header[keyword]) + dt.timedelta(minutes=minutes)).isoformat(timespec="milliseconds")
    fits.PrimaryHDU(np.clip(np.rint(pixels), 0, 65535).astype(np.uint16), header).writeto(target)


def failures(work: Work) -> dict[str, tuple[str, str]]:
    """Code and message of each failed frame, by file name; only the first step that failed."""
    rows = work.sql(
        "SELECT e.path, t.error_code, t.message FROM task t JOIN frame f ON f.frame_id = t.frame_id "
        "JOIN exposure e ON e.exposure_id = f.exposure_id WHERE t.status = 'failed'"
    )
    assert len({row[0] for row in rows}) == len(rows)
    return {Path(path).name: (code, message) for path, code, message in rows}


def test_trails_clouds_and_a_lens_cap(night: Night, tmp_path: Path) -> None:
    raw, good = night.link(tmp_path / "raw"), night.objects()
    pixels = fits.getdata(good[0]).astype(float)
    rng = np.random.default_rng(4)
    zero = float(np.median(fits.getdata(min(night.raw.glob("bias*")))))
    light, sky = pixels - zero, float(np.median(pixels)) - zero
    trailed = zero + convolve1d(light, np.full(31, 1 / 31), axis=1) + rng.normal(0, np.sqrt(sky), light.shape)
    write_like(good[0], raw / "trailed.fits", trailed, 60)
    veil = 1.0 + 0.5 * gaussian_filter(rng.normal(0, 1, light.shape), 30) / gaussian_filter(rng.normal(0, 1, light.shape), 30).std()
    clouded = zero + rng.poisson(np.clip(3.0 * sky * np.clip(veil, 0.5, None) + 0.08 * (light - sky), 0, None))
    write_like(good[0], raw / "clouded.fits", clouded.astype(float), 62)
    write_like(good[0], raw / "capped.fits", zero + rng.normal(0, 3, light.shape), 64)
    work = Work(f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "files")
    tallies = {tally.step: tally for tally in work.tallies([raw])}
    found = failures(work)
    assert found["trailed.fits"][0] == "frame.trailed" and "trailed over 3" in found["trailed.fits"][1]
    rows = work.sql(
        "SELECT e.path, c.type, c.reason FROM classification c JOIN frame f ON f.frame_id = c.frame_id "
        "JOIN exposure e ON e.exposure_id = f.exposure_id"
    )
    kinds = {Path(path).name: (kind, reason) for path, kind, reason in rows}
    assert found["clouded.fits"][0] == "frame.clouds" and "on frames alike" in found["clouded.fits"][1]
    # Nothing but noise at the level of the bias: it is a dark, whatever its header says.
    assert kinds["capped.fits"][0] == "dark"
    assert tallies["photometry"].done == len(good) and tallies["statistics"].done == 1


@pytest.mark.long
def test_the_wrong_catalogue(night: Night, tmp_path: Path) -> None:
    table = Table.read(night.catalogue)
    rng = np.random.default_rng(6)
    table["ra"] = rng.permutation(np.asarray(table["ra"], dtype=float))
    catalogue = tmp_path / "wrong.ecsv"
    table.write(catalogue)
    work = Work(f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "files")
    config = tmp_path / "mine.toml"
    config.write_text(f'[solve]\nindex_folder = "{tmp_path}"\n')
    tallies = {tally.step: tally for tally in work.tallies(catalogues=[catalogue], config=config)}
    assert len(tallies["solve"].failed) == len(night.objects()) and tallies["solve"].done == 0
    message = next(iter(tallies["solve"].failed.values()))
    assert "no plate solution" in message and "catalogue stars" in message and "the catalogue's area" in message
    assert work.sql("SELECT count(*) FROM first_solution") == [(0,)]


def test_without_a_catalogue_nobody_is_told_that_it_is_the_wrong_one(night: Night, tmp_path: Path) -> None:
    raw = night.link(tmp_path / "raw", [*night.calibration(), *night.objects()[:2]])
    work = Work(f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "files")
    tallies = {tally.step: tally for tally in work.tallies([raw], catalogues=[], steps=SOLVED)}
    messages = list(tallies["solve"].failed.values())
    assert len(messages) == 2 and all("has no catalogue" in message and "--catalogue FILE" in message for message in messages)
    assert {code for code, _ in failures(work).values()} == {"solve.no_catalogue"}


class Listener:
    """Who is told how the work goes: what stood in the archive when frames were tried once more."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.chances: list[tuple[str, int, int]] = []

    def begin(self, step: Step, pending: int) -> None: ...

    def advance(self, step: Step, unit: Unit, error: StarledgerError | None) -> None: ...

    def again(self, step: Step, chance: str, units: int) -> None:
        self.chances.append((chance, units, self.work.sql("SELECT count(*) FROM first_solution")[0][0]))

    def end(self, step: Step, tally: Tally) -> None: ...


@pytest.mark.parametrize("known", [True, False])
def test_one_frame_of_a_pointing_is_solved_blindly(known: bool, night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where that finds nothing, one more, not all of them; what was solved stands in the archive before others are tried once more."""
    raw, frames = tmp_path / "raw", night.objects()[:5]
    raw.mkdir()
    for path in [*night.calibration(), frames[0]]:
        shutil.copy(path, raw / path.name)
    for path in frames[1:]:
        unplaced(path, raw / path.name)
    header = fits.getheader(frames[0])
    centre = SkyCoord(header["RA"], header["DEC"], unit="deg")
    asked = []

    def search(stars: StarImages, channel: Channel, scale: float, *_: object) -> Search:
        asked.append(len(stars.x))
        if not known:
            return Search([], None, 0.0, "blind: nothing matches")
        start = ("blind", Pointing(centre.ra.deg, centre.dec.deg, scale))
        return Search([start], (centre.ra.deg, centre.dec.deg), 1.0, blind=True)

    monkeypatch.setattr(solve_step, "blindly", search)
    monkeypatch.setattr(solve_step, "unavailable", lambda _: "")
    work = Work(f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "files")
    # the frame that its header places is no help
    monkeypatch.setattr(solve_step, "from_header", lambda *_, **__: None)
    listener = Listener(work)
    tallies = {tally.step: tally for tally in work.tallies([raw], steps=SOLVED, reporter=listener)}
    starts = dict(work.sql("SELECT start, count(*) FROM first_solution GROUP BY start"))
    names = [name for name, _, _ in listener.chances]
    if known:
        assert len(asked) == 1 and starts == {"blind": 1, "neighbour": 4}
        assert listener.chances[-1] == (names[0], 4, 1)  # recorded before the others follow
    else:
        assert len(asked) == 2 and starts == {} and len(tallies["solve"].failed) == 5
        words = ("blind: nothing matches", "was tried, which shows the same stars")
        assert all(any(some in said for some in words) for said in tallies["solve"].failed.values())


def unplaced(original: Path, target: Path) -> None:
    """A copy of a frame whose header does not say where it points."""
    pixels, header = fits.getdata(original, header=True)
    for keyword in ("RA", "DEC", "EQUINOX"):
        header.remove(keyword, ignore_missing=True)
    fits.PrimaryHDU(pixels, header).writeto(target)


def without_the_package(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """A configuration under which frames without a place are looked for blindly, and nobody can."""
    monkeypatch.setitem(sys.modules, "astrometry", None)  # type: ignore[arg-type]
    monkeypatch.setattr(shutil, "which", lambda _: None)
    indexes = folder / "indexes"
    indexes.mkdir()
    (indexes / "index-1.fits").touch()
    config = folder / "mine.toml"
    config.write_text(f'[solve]\nindex_folder = "{indexes}"\n')
    return config


def test_frames_that_only_a_blind_search_could_solve_say_what_to_install(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for path in sorted(night.raw.iterdir()):
        (unplaced if path in night.objects() else shutil.copy)(path, raw / path.name)
    config = without_the_package(monkeypatch, tmp_path)
    work = Work(f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "files")
    tallies = {tally.step: tally for tally in work.tallies([raw], config=config)}
    assert tallies["detect"].done == len(night.objects()) == len(tallies["solve"].failed)
    assert all("pip install 'starledger[blind]'" in reason and "\n" not in reason for reason in tallies["solve"].failed.values())


@pytest.mark.long
def test_a_neighbour_serves_where_the_package_is_missing(night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, good = night.link(tmp_path / "raw"), night.objects()
    (raw / good[1].name).unlink()
    unplaced(good[1], raw / good[1].name)
    config = without_the_package(monkeypatch, tmp_path)
    work = Work(f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "files")
    done = work.worked([raw], config=config)  # nothing failed
    assert done["photometry"] == len(good)
    assert work.sql("SELECT count(*) FROM first_solution WHERE start LIKE 'neighbour%'") == [(1,)]
