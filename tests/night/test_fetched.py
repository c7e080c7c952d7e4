"""A night without a catalogue file: its sky is fetched from a service once, and then everything works offline."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from mini_night import N_OBJECT, Work, night
from tap_service import serving

from reduction.catalogues.tap import Client


def as_gaia_has_it(path: Path) -> Table:
    """The demo's catalogue with Gaia's column names."""
    table = Table.read(path)
    names = [f"phot_{band}_mean_mag" for band in ("g", "bp", "rp")]
    table.rename_columns(["g", "bp", "rp"], names)
    for name in names:
        table[name] = np.ma.filled(np.ma.asarray(table[name]).astype(float), np.nan)
        table[name.replace("mag", "flux_over_error")] = 1000.0
    table["ref_epoch"] = float(table.meta["epoch"])
    table["ra_error"] = table["dec_error"] = 0.02
    return table


@pytest.mark.long
def test_a_night_is_reduced_with_fetched_stars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reduction.catalogues.tap.Client", partial(Client, sleep=lambda _: None))
    work = Work(f"sqlite:///{tmp_path / 'archive.db'}", tmp_path / "files")
    config = tmp_path / "fetch.toml"
    with serving(as_gaia_has_it(night().catalogue)) as service:
        config.write_text(f'[fetch]\ncatalogues = ["gaia"]\nservices = ["gaia={service.url}"]\nattempts = 1\n')
        done = work.worked(catalogues=[], config=config)
        asked = len(service.queries)
    assert done["fetch"] == asked > 0 and done["solve"] == done["photometry"] == N_OBJECT and done["field_colours"] == 1
    # The service is gone: what is there is enough.
    assert work.worked(catalogues=[]) == {}
    assert work.sql("SELECT fit_band, fit_colour_band FROM field") == [("G", "BP-RP")]
    assert work.sql("SELECT count(*) FROM source WHERE fit_colour IS NULL") == [(0,)]
    ((n_curve,),) = work.sql("SELECT count(DISTINCT source_id) FROM light_curve")
    assert n_curve > 30
