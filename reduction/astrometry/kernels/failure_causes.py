"""Why a frame has no plate solution, named for what it is: a lens cap, a trail, clouds, the wrong catalogue, too few stars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from db.errors import AlgorithmFailed, FrameUnusable
from db.flags import Flag
from reduction.astrometry.kernels.detection import Detections
from reduction.astrometry.kernels.start import MIN_MATCHED
from reduction.astrometry.kernels.trailing import trailing

__all__ = ["FrameFacts", "count_stars", "diagnose"]

STAR_SNR = 10.0
LONG_TRAIL = 5.0  # pixel; shorter trails are solved
FEW = 0.4  # of the stars of like frames, or of the catalogue's
BRIGHT = 1.5  # times the sky of like frames
UNEVEN = 0.10  # of the sky: clouds, where like frames are not known


@dataclass(frozen=True)
class FrameFacts:
    """What is known of a frame besides its detections; NaN or None where it is not.

    Attributes
    ----------
    sky : float
        Median level above that of a pixel without light (ADU).
    noise : float
        Noise of a pixel (ADU).
    unevenness : float
        Scatter of the sky over cells of the frame, relative to `sky`.
    usual_stars, usual_sky : float
        Medians over like frames (same set-up, field and exposure) of `count_stars` and of `sky`.
    n_catalogue : int or None
        Catalogue stars where the frame is thought to be.
    unknown : tuple of str
        What could place the frame and is not known: "pointing", "pixel scale", "index files".
    indexed : (float, float) or None
        RA, Dec (degree) of the frame's middle that a search in index files or a header solution confirmed by
        them gave: the stars are known, so it is not they who are at fault.
    """

    sky: float = float("nan")
    noise: float = float("nan")
    unevenness: float = float("nan")
    usual_stars: float = float("nan")
    usual_sky: float = float("nan")
    n_catalogue: int | None = None
    indexed: tuple[float, float] | None = None
    unknown: tuple[str, ...] = ()


def count_stars(found: Detections) -> int:
    """Number of detections among `found` with S/N above 10 and the shape of a star."""
    return int(np.count_nonzero((found.snr > STAR_SNR) & np.isfinite(found.fwhm)))


def diagnose(found: Detections, facts: FrameFacts, *, tried: str, where: str = "") -> FrameUnusable | AlgorithmFailed:
    """Name the cause of a failure.

    Parameters
    ----------
    found : Detections
        Of the frame.
    facts : FrameFacts
        What else is known.
    tried : str
        What the tries came to, such as the message of the error that `solve` raised.
    where : str
        File or row, for the message.

    Returns
    -------
    FrameUnusable or AlgorithmFailed
        To be raised, one line. Its code names the cause: frame.dark (no stars and no light: a lens cap, a closed
        shutter), frame.trailed, solve.wrong_catalogue, frame.clouds, frame.few_stars, or solve.no_start where
        stars are plenty and none of these is seen.

    Notes
    -----
    Asked in this order, as each would also look like those that come after it. A quantity that is not known speaks
    for no cause.
    """
    n_star = count_stars(found)
    for ask in (_dark, _trailed, _catalogue, _hit, _clouds, _few):
        error = ask(found, n_star, facts)
        if error is not None:
            break
    else:
        error = AlgorithmFailed(
            f"{n_star} stars with S/N above {STAR_SNR:.0f} among {len(found)} detections, and no plate solution: {tried}",
            hint=_advice(facts),
            code="solve.no_start",
        )
    error.where = where
    return error


def _advice(facts: FrameFacts) -> str:
    """What would help: what is there is to be checked, what is not is to be given."""
    known = [f"the {what}" for what in ("pointing", "pixel scale") if what not in facts.unknown]
    given = {"pointing": "ra and dec", "pixel scale": "pixel_scale", "index files": "index_folder"}
    where = {"pointing": "default", "pixel scale": "default", "index files": "solve"}
    missing = [f"{given[what]} under [{where[what]}]" for what in facts.unknown]
    check = f"check {', '.join([*known, ''])}the catalogue's area and its depth" if known else "check the catalogue's area and its depth"
    return check + (f", or give {' and '.join(missing)} in --config" if missing else "")


def _dark(_: Detections, n_star: int, facts: FrameFacts) -> FrameUnusable | None:
    if n_star >= MIN_MATCHED or not facts.sky < facts.noise:
        return None
    return FrameUnusable(
        f"no light: {n_star} stars and a sky of {facts.sky:.1f} ADU, less than the noise of {facts.noise:.1f} ADU",
        hint="a lens cap or a closed shutter? If it is a dark frame, say so: starledger frames set FRAME dark",
        code="frame.dark",
    )


def _trailed(found: Detections, _: int, __: FrameFacts) -> FrameUnusable | None:
    trail = trailing(found)
    if not trail.trailed or trail.length < LONG_TRAIL:
        return None
    return FrameUnusable(
        f"stars are trailed over {trail.length:.0f} pixel towards {np.degrees(trail.theta):.0f} degree from +x ({trail.n_star} alike)",
        hint="the mount did not follow, or was moved: use another frame",
        code="frame.trailed",
    )


def _catalogue(_: Detections, n_star: int, facts: FrameFacts) -> AlgorithmFailed | None:
    if facts.indexed is None and facts.n_catalogue != 0:
        return None
    ra, dec = facts.indexed or (np.nan, np.nan)
    found = f"the index files put the frame at {ra:.4f} {dec:+.4f}, " if facts.indexed is not None else ""
    if facts.n_catalogue == 0:
        message = f"{found}{'where ' if found else ''}the catalogue has no star{'' if found else ' where the frame points'}"
    else:
        message = f"{found}and the catalogue's {facts.n_catalogue} stars there do not fit its {n_star} stars"
    return AlgorithmFailed(
        message, hint="the wrong catalogue: load one of this part of the sky with --catalogue FILE", code="solve.wrong_catalogue"
    )


def _clouds(_: Detections, n_star: int, facts: FrameFacts) -> FrameUnusable | None:
    signs = []
    if facts.sky > BRIGHT * facts.usual_sky:
        signs.append(f"a sky {facts.sky / facts.usual_sky:.1f} times as bright")
    if facts.unevenness > UNEVEN:
        signs.append(f"a sky uneven by {100 * facts.unevenness:.0f} %")
    if n_star < FEW * facts.usual_stars:
        expected = f"{facts.usual_stars:.0f} on frames alike"
    elif signs and facts.n_catalogue is not None and n_star < FEW * facts.n_catalogue:
        expected = f"{facts.n_catalogue} in the catalogue"
    else:
        return None
    return FrameUnusable(
        f"clouds: {n_star} stars of {expected}" + (f", under {' and '.join(signs)}" if signs else ""),
        hint="use another frame",
        code="frame.clouds",
    )


def _hit(found: Detections, n_star: int, __: FrameFacts) -> FrameUnusable | None:
    bright = found.snr > STAR_SNR
    spoiled = bright & (~np.isfinite(found.fwhm) | ((found.flags & int(Flag.COSMIC)) != 0))
    n_hit, n_bright = int(np.count_nonzero(spoiled)), int(np.count_nonzero(bright))
    if n_star >= MIN_MATCHED or n_bright < 2 * MIN_MATCHED or n_hit < 0.5 * n_bright:
        return None
    return FrameUnusable(
        f"{n_star} stars: of {n_bright} detections with S/N above {STAR_SNR:.0f}, {n_hit} lack a star's shape or are hit by cosmic rays",
        hint="hot pixels: give darks, or see [calibrate] for how cosmic rays are told",
        code="frame.few_stars",
    )


def _few(_: Detections, n_star: int, __: FrameFacts) -> FrameUnusable | None:
    if n_star >= MIN_MATCHED:
        return None
    return FrameUnusable(
        f"{n_star} stars with S/N above {STAR_SNR:.0f}, at least {MIN_MATCHED} are needed for a plate solution",
        hint="too short an exposure, out of focus, or too small a field? Otherwise lower [detect] threshold",
        code="frame.few_stars",
    )
