"""Nights that are open: what their frames have in common is provisional, and how far off it may be to stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import ConfigurationError
from db.tables import Exposure, Frame, Night, NightClosing, Observatory
from reduction.frames.kernels.times import night_number
from reduction.lightcurves.nights_over import julian_date, over_now
from reduction.pipeline.inputs import Said
from reduction.pipeline.parameters import parameter, read_parameters

__all__ = ["SECTION", "OpenNightParameters", "OpenNights", "open_nights", "tolerances"]

#: Section of the configuration.
SECTION = "open_nights"


@dataclass(frozen=True)
class OpenNightParameters:
    """How far the result of a whole night may be from a provisional one whose frames are not measured anew."""

    detector: float = parameter(0.01, "", "relative change of gain and read noise; levels by so much of the read noise", least=0, most=1)
    master: float = parameter(0.5, "", "rms change of a master's pixels, in units of their own error", least=0, most=100)
    distortion: float = parameter(0.02, "pixel", "largest change of a position on the frame", least=0, most=10)
    discovered: float = parameter(0.05, "pixel", "change of a discovered source's position", least=0, most=10)
    pattern: float = parameter(0.5, "", "largest change of a pixel's correction, in units of the noise of a frame", least=0, most=100)
    profile: float = parameter(0.01, "", "change of a shared profile, as a part of it (rms)", least=0, most=1)


def tolerances(settings: Mapping[str, Any], where: str = "") -> OpenNightParameters:
    """Those in force.

    Raises
    ------
    ConfigurationError
        When the section has a key or a value that is not allowed; `where` says in which file.
    """
    section = settings.get(SECTION, {})
    if not isinstance(section, Mapping):
        raise ConfigurationError(
            f"{SECTION} = {section!r} is no section", where=where.strip(), hint=f"write [{SECTION}]", code="config.section"
        )
    found: OpenNightParameters = read_parameters(OpenNightParameters, section, f"{where}[{SECTION}]")
    return found


@dataclass(frozen=True, init=False)
class OpenNights(Said):
    """Which nights are open: by the clock, as long as no person has closed them."""

    ground: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__((Night, Exposure, Frame, Observatory, NightClosing))

    def digest(self, session: Session, settings: Mapping[str, Any]) -> str:  # noqa: ARG002
        """Their numbers."""
        return f"{sorted(open_nights(session))}"


def open_nights(session: Session) -> frozenset[int]:
    """Nights to which frames may still be added: local mean solar noon has not come everywhere, and nobody closed them.

    A night that was over when it was taken in was never open, and one that was closed does not open again.

    Parameters
    ----------
    session : Session
        Reads.

    Returns
    -------
    frozenset of int
        night_id of each.
    """
    # Nowhere is the noon later than at the far west: older nights are over, however many there are.
    first = int(night_number(julian_date(), -180.0))
    closed = sa.exists().where(NightClosing.night_id == Night.night_id)
    recent = list(session.execute(sa.select(Night.night_id).where(Night.night_id >= first, ~closed)).scalars())
    return frozenset(recent) - over_now(session, recent) if recent else frozenset()
