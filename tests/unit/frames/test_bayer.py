"""Channels of a Bayer mosaic: every pixel in one of them, and where it came from."""

from __future__ import annotations

import numpy as np
import pytest

from reduction.frames.kernels.bayer import CHANNELS, channels_of, pattern_at

SECTIONS = [(0, 8, 0, 6), (1, 9, 0, 6), (0, 8, 1, 7), (3, 11, 5, 11)]


def colours(bayer: str, shape: tuple[int, int]) -> np.ndarray:
    """Colour of every pixel of a mosaic."""
    return np.array([[bayer[2 * (y % 2) + x % 2] for x in range(shape[1])] for y in range(shape[0])])


@pytest.mark.parametrize("bayer", ["RGGB", "BGGR", "GRBG", "GBRG"])
@pytest.mark.parametrize("section", SECTIONS)
def test_every_pixel_is_in_the_channel_of_its_colour(bayer: str, section: tuple[int, int, int, int]) -> None:
    mosaic = colours(bayer, (12, 14))
    number = np.arange(mosaic.size).reshape(mosaic.shape)
    channels = channels_of(bayer, section)
    assert [channel.name for channel in channels] == list(CHANNELS)
    for channel in channels:
        assert set(channel.cut(mosaic).ravel().tolist()) == {channel.name[0]}
        y, x = np.indices((channel.ny, channel.nx))
        np.testing.assert_array_equal(channel.cut(number), number[channel.y0 + 2 * y, channel.x0 + 2 * x])
    x0, x1, y0, y1 = section
    cut = np.concatenate([channel.cut(number).ravel() for channel in channels])
    np.testing.assert_array_equal(np.sort(cut), np.sort(number[y0:y1, x0:x1].ravel()))
    red, green = channels[0], channels[1]
    assert (red.y0 - green.y0) % 2 == 0, "G1 shares its rows with R"


def test_odd_sizes_lose_their_last_row_and_column() -> None:
    channels = channels_of("RGGB", (0, 7, 0, 5))
    assert {(channel.nx, channel.ny) for channel in channels} == {(3, 2)}


def test_a_monochrome_detector_is_one_channel() -> None:
    (mono,) = channels_of(None, (2, 10, 1, 6))
    raw = np.arange(12 * 14).reshape(12, 14)
    np.testing.assert_array_equal(mono.cut(raw), raw[1:6, 2:10])
    assert (mono.name, mono.step) == ("mono", 1)


def test_patterns_shift_with_their_origin() -> None:
    assert pattern_at("RGGB", 1, 0) == "GRBG"
    assert pattern_at("RGGB", 0, 1) == "GBRG"
    assert pattern_at("RGGB", 1, 1) == "BGGR"
    assert pattern_at("RGGB", 2, 2) == "RGGB"


@pytest.mark.parametrize("bayer", ["RGBG", "XTRA", "", "rggb"])
def test_what_is_no_bayer_pattern_is_refused(bayer: str) -> None:
    with pytest.raises(ValueError, match="no Bayer pattern"):
        channels_of(bayer, (0, 8, 0, 8))
