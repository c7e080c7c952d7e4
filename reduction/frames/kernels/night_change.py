"""When one night ends and the next begins at a place whose longitude nobody knows: in the longest gap of the day between its frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["night_change"]

_EPOCH = 2451545.0
_HOUR = 1.0 / 24.0
#: Noon is in the middle of a gap of so many hours or fewer, between dawn and dusk. Of a night that has only begun, and leaves a gap of
#: all the day, two thirds still belong to it: it goes on for up to 16 hours.
_DAYLIGHT = 14.0 * _HOUR
#: Noon at Greenwich serves where it comes this long after the first frame, an hour after the last and half an hour before the first.
_LONG_NIGHT = 13.0 * _HOUR


def night_change(jd_utc: npt.ArrayLike, known_jd: npt.ArrayLike = (), known_night: npt.ArrayLike = ()) -> tuple[float, float]:
    """Longitude whose noon lies where no frames do, so that `night_number` parts nights there.

    Parameters
    ----------
    jd_utc : array_like, shape (n,)
        Mid-exposures of new frames, Julian dates (UTC).
    known_jd, known_night : array_like, shape (m,)
        Mid-exposures of frames that have a night already, and its number: they keep it.

    Returns
    -------
    longitude : float
        Degrees, east positive, -180 to 180; 0 where noon at Greenwich lies well in the gap, and without frames.
    hour : float
        UTC hour at which nights change, 0 to 24.

    Notes
    -----
    All days are laid upon one another: daylight is where there are no frames on any of them. Near the date line, only whole nights tell
    which of the two dates that they touch is that of their evening.
    """
    new, jd = np.asarray(jd_utc, np.float64), np.asarray(known_jd, np.float64)
    night = np.asarray(known_night, np.float64)
    first, gap = _longest_gap(np.concatenate([new, jd]))
    change = 0.0 if gap is None or _greenwich(first, gap) else (first - gap * _before(gap)) % 1.0
    shift = -change if change <= 0.5 else 1.0 - change
    if len(jd):
        # Frames of known nights hold between which longitudes it must lie.
        low, high = float(np.max(night + _EPOCH - jd)), float(np.min(night + _EPOCH + 1.0 - jd))
        if not low <= shift < high:
            other = next((s for s in (shift - 1.0, shift + 1.0) if low <= s < high), None)
            shift = other if other is not None else (low + high) / 2.0 if low < high else 0.0
    return 360.0 * shift, (12.0 - 24.0 * shift) % 24.0


def _longest_gap(jd: npt.NDArray[np.float64]) -> tuple[float, float | None]:
    """Time of day (of the Julian day) at which frames begin, and how long there were none before; None without frames."""
    if not len(jd):
        return 0.0, None
    times = np.unique(jd % 1.0)
    before = np.diff(times, prepend=times[-1] - 1.0)
    k = int(np.argmax(before))
    return float(times[k]), float(before[k])


def _before(gap: float) -> float:
    """Part of the gap between the change of the night and its first frame."""
    return 1.0 / 2.0 - max(0.0, gap - _DAYLIGHT) / (1.0 - _DAYLIGHT) / 6.0


def _greenwich(first: float, gap: float) -> bool:
    noon = (0.0 - first) % 1.0
    return max(1.0 - gap + _HOUR, _LONG_NIGHT) <= noon <= 1.0 - 0.5 * _HOUR
