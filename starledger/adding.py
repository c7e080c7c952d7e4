"""Adding a target to an archive: from what a person says of it and, where asked for, from what is known of its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from db.errors import ConfigurationError
from db.tables import Target
from queries import targets

if TYPE_CHECKING:
    from starledger.archive import Archive
    from starledger.resolving import Resolved

__all__ = ["TIMEOUT", "Added", "Known", "add_target"]

#: Seconds that each service may take.
TIMEOUT = 30.0


@dataclass(frozen=True)
class Known:
    """What a person says of a target; None: not known to them.

    Attributes
    ----------
    place : (float, float) or None
        RA and Dec in degrees, ICRS.
    epoch : BJD_TDB or None
    period, duration : day or None
    """

    place: tuple[float, float] | None = None
    epoch: float | None = None
    period: float | None = None
    duration: float | None = None


@dataclass(frozen=True)
class Added:
    """A target that was added.

    Attributes
    ----------
    target : Target
        Its row.
    lines : tuple of str
        What each service said of its name, and where they disagree; empty when none was asked.
    """

    target: Target
    lines: tuple[str, ...]


def add_target(archive: Archive, name: str, known: Known | None = None, *, resolve: bool = False, timeout: float = TIMEOUT) -> Added:
    """Add a target to an archive.

    Parameters
    ----------
    archive : Archive
    name : str
        With `resolve`, a star's, variable's or planet's; else any.
    known : Known, optional
        What is known of it. It stands, whatever services say.
    resolve : bool
        Ask SIMBAD, VSX and the NASA Exoplanet Archive for the rest. Without it the network is never asked.
    timeout : float
        Seconds that each service may take.

    Returns
    -------
    Added

    Raises
    ------
    ConfigurationError
        Without a place; see also `queries.targets.add_target` and `starledger.resolving.resolve_name`.
    AlgorithmFailed
        When the place could not be learnt, since a service did not answer.
    ArchiveUnavailable
        When another program writes to the archive.
    """
    known = known or Known()
    if known.place is None and not resolve:
        raise ConfigurationError(
            "no position", where=repr(name), hint='give "RA DEC", or --resolve to ask for its name', code="target.position"
        )
    with archive.reading() as session:
        targets.check_name(session, name)  # before three services are asked for nothing
    # Nor does the archive's one writer wait for the network.
    found = _resolved(name, known, timeout) if resolve else None
    with archive.writing() as session:
        target = _insert(session, name, known, found)
    return Added(target, () if found is None else found.lines)


def _resolved(name: str, known: Known, timeout: float) -> Resolved:
    from starledger.resolving import resolve_name  # astroquery takes two seconds to import

    return resolve_name(name, known, timeout=timeout)


def _insert(session: Session, name: str, known: Known, found: Resolved | None) -> Target:
    if found is None:
        assert known.place is not None
        return targets.add_target(session, name, *known.place, epoch=known.epoch, period=known.period, duration=known.duration)
    return targets.add_target(
        session,
        name,
        found.ra,
        found.dec,
        epoch=found.epoch,
        period=found.period,
        duration=found.duration,
        position_from=found.position_from,
        ephemeris_from=found.ephemeris_from,
    )
