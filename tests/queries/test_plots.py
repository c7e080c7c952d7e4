"""Plots of light curves: what is drawn, and into what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from db.errors import ConfigurationError
from starledger.plots import draw_light_curve, plot_light_curve


@pytest.fixture
def curve() -> pd.DataFrame:
    n = 60
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "bjd_tdb": 2458107.6 + np.linspace(0, 0.3, n),
            "mag": 11.4 + 0.005 * rng.standard_normal(n),
            "mag_err_total": 0.005,
            "quality": 0,
            "passband": "clear",
        }
    )
    frame.loc[7, ["mag", "quality"]] = 14.0, 1
    frame.loc[9, "quality"] = 2
    frame.loc[11, "mag"] = np.nan
    return frame


def drawn(curve: pd.DataFrame) -> Figure:
    figure = Figure()
    draw_light_curve(figure.add_subplot(), curve)
    return figure


def test_bright_is_up_and_one_wild_point_hides_nothing(curve: pd.DataFrame) -> None:
    curve.loc[20, "mag"] = 5.0  # a wild point that nobody flagged
    axes = drawn(curve).axes[0]
    bottom, top = axes.get_ylim()
    assert bottom > top and 0.02 < bottom - top < 0.2 and top < 11.4 < bottom
    assert "2458107" in axes.get_xlabel() and "BJD" in axes.get_xlabel()


def test_points_by_quality(curve: pd.DataFrame) -> None:
    axes = drawn(curve).axes[0]
    counts = {line.get_label(): len(line.get_xdata()) for line in axes.get_lines() if not str(line.get_label()).startswith("_")}
    assert {label: count for label, count in counts.items() if label in ("flagged", "masked")} == {"flagged": 1, "masked": 1}
    (bars,) = axes.containers
    assert bars.get_label() == "clear" and len(bars.lines[0].get_xdata()) == 60 - 3


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg", "PNG"])
def test_files_are_written(curve: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"curve.{suffix}"
    plot_light_curve(curve, path, "HAT-P-32 b")
    assert path.stat().st_size > 5000


@pytest.mark.parametrize("rows", [slice(0, 0), slice(11, 12), slice(7, 8)])
def test_few_points_or_none(curve: pd.DataFrame, tmp_path: Path, rows: slice) -> None:
    plot_light_curve(curve.iloc[rows], tmp_path / "curve.png", "nothing")
    assert (tmp_path / "curve.png").exists()


@pytest.mark.parametrize("name", ["curve.fits", "curve", "no/such/folder/curve.png"])
def test_what_cannot_be_written_is_said(curve: pd.DataFrame, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plot_light_curve(curve, tmp_path / name, "x")
    assert str(tmp_path) in str(caught.value)
