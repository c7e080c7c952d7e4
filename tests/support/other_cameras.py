"""Two cameras that are unlike those of `simulated_frames`: what sorts frames was not made with them."""

from __future__ import annotations

from simulated_frames import Camera

#: A detector in space without a cooler: a fifth of its pixels are hot, and dark current is brighter than the sky.
WARM = Camera(
    "warm detector", shape=(272, 256), pedestal=620.0, gain=1.1, read_noise=9.0, dark_rate=12.0, hot=0.2, hot_rate=40.0, fixed=4.0,
    fwhm=2.2, sky=6.0, vignetting=0.3, drift=2.0,
)  # fmt: skip
#: A lens that sees the whole sky on large pixels: undersampled stars, a bright sky that falls off steeply, 14 bits.
ALL_SKY = Camera(
    "all-sky lens", shape=(260, 300), pedestal=130.0, gain=4.0, read_noise=11.0, full=16383.0, dark_rate=0.8, hot=0.004, hot_rate=12.0,
    fwhm=1.25, sky=60.0, vignetting=0.7, drift=1.0, bias_time=1e-4,
)  # fmt: skip

OTHER_CAMERAS = (WARM, ALL_SKY)
