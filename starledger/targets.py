"""The stars and positions that people follow, from Python: `archive.targets`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from queries import target_curve, targets
from queries.position import parse_position
from starledger.paths import AnyPath, one_path

if TYPE_CHECKING:
    import pandas as pd
    from astropy.coordinates import SkyCoord
    from astropy.timeseries import TimeSeries

    from db.tables import Target
    from queries.target_curve import TargetCurve
    from reduction.pipeline.scheduler import Reporter, Tally
    from starledger.adding import Added
    from starledger.archive import Archive

__all__ = ["Targets"]


def _place(position: str | SkyCoord) -> tuple[float, float]:
    """Right ascension and declination in degrees."""
    if isinstance(position, str):
        return parse_position(position)
    from starledger.quantities import position as place_of

    return place_of(position)


class Targets:
    """The stars and positions you follow."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def add(
        self,
        name: str,
        position: str | SkyCoord | None = None,
        *,
        epoch: float | None = None,
        period: float | None = None,
        duration: float | None = None,
        resolve: bool = False,
        timeout: float = 30.0,
    ) -> Added:
        """Add a star or a position to follow, linked to its source where one is near.

        Parameters
        ----------
        name : str
            Unlike any other's, whatever the case; with `resolve`, a star's, variable's or planet's.
        position : str or SkyCoord, optional
            Text is "RA DEC", ICRS, in degrees or sexagesimal. What is given stands, whatever services say.
        epoch : float, optional
            A mid-transit or maximum, BJD_TDB.
        period, duration : float, optional
            Days.
        resolve : bool
            Ask SIMBAD, VSX and the NASA Exoplanet Archive for what is not given; without it the network is never asked.
        timeout : float
            Seconds that each service may take.

        Returns
        -------
        Added
            Its row as `target`; in `lines` what each service said of its name, and where they disagree.

        Raises
        ------
        ConfigurationError
            For a name that is taken, no position or one off the sky, or an ephemeris that cannot be.
        AlgorithmFailed
            When the place could not be learnt, since a service did not answer.
        ArchiveUnavailable
            When another program writes.

        Examples
        --------
        >>> archive.targets.add("WASP-12 b", "06 30 32.80 +29 40 20.3", period=1.0914203)
        """
        from starledger.adding import Known, add_target

        known = Known(None if position is None else _place(position), epoch, period, duration)
        return add_target(self._archive, name, known, resolve=resolve, timeout=timeout)

    def list(self) -> pd.DataFrame:
        """The stars you follow by name: name, ra, dec (deg), source_id, epoch (BJD_TDB), period and duration (d).

        Examples
        --------
        >>> archive.targets.list()
        """
        with self._archive.reading() as session:
            return targets.list_targets(session)

    def add_file(self, path: AnyPath) -> tuple[Target, ...]:
        """Add many targets at once: all of them, or none.

        Parameters
        ----------
        path : path
            CSV (comma, semicolon or blanks) with a line of names: name, ra, dec and, where they are known, epoch (BJD_TDB), period and
            duration (d); ra and dec ICRS, in degrees or sexagesimal.

        Raises
        ------
        ConfigurationError
            When it cannot be read, or a row cannot be: the message names its line.

        Examples
        --------
        >>> archive.targets.add_file("positions.csv")
        """
        from starledger.adding import add_targets

        return add_targets(self._archive, one_path(path))

    def remove(self, name: str) -> Target:
        """No longer follow a target: its measurements go with it. The next run measures the others on its frames without it.

        Raises
        ------
        ConfigurationError
            When there is none of this name.

        Examples
        --------
        >>> archive.targets.add("gone", "31.10 46.70")
        >>> archive.targets.remove("gone")
        """
        with self._archive.writing() as session:
            return targets.remove_target(session, name)

    def measure(self, *names: str, jobs: int = 1, retry: bool = False, reporter: Reporter | None = None) -> Tally:
        """Measure the flux at the positions of targets on all frames that hold them, whether or not a star was seen there.

        What is measured is not measured again: a frame is worked when a target on it is new or gone, or what it is made from has
        changed. `reduce` does the same among all other steps. A frame's targets are measured together, by one joint fit with its sources.

        Parameters
        ----------
        *names : str
            Only frames that may hold one of these targets; without names all frames.
        jobs : int
            Processes; 0: one a processor.
        retry : bool
            Try again what failed.
        reporter : Reporter, optional
            Receives how the work goes.

        Returns
        -------
        Tally
            Frames done now, done before, and failed, with the reasons.

        Raises
        ------
        ConfigurationError
            When there is no target of a name.
        ArchiveUnavailable
            When another program writes.

        Examples
        --------
        >>> archive.targets.measure()
        >>> archive.targets.measure("HAT-P-32 b")
        """
        from reduction.photometry.followed_targets import frames_of_targets
        from starledger.reduce import reduce

        frames = None
        if names:
            with self._archive.reading() as session:
                frames = frames_of_targets(session, [targets.target_named(session, name).target_id for name in names])
        (tally,) = reduce(self._archive, steps=["target_photometry"], jobs=jobs, retry=retry, reporter=reporter, frames=frames)
        return tally

    def curve(self, name: str) -> TargetCurve:
        """The flux at a target's position on every frame, without astropy: DataFrames of its points and of its nights, and what it is.

        Examples
        --------
        >>> archive.targets.curve("HAT-P-32 b").frame["flux_cal"]
        >>> archive.targets.curve("HAT-P-32 b").nights
        """
        with self._archive.reading() as session:
            return target_curve.find_target_curve(session.connection(), targets.target_named(session, name))

    def light_curve(self, name: str) -> TimeSeries:
        """The flux at a target's position on every frame that holds it; negative fluxes are answers, too.

        Parameters
        ----------
        name : str
            A target's.

        Returns
        -------
        astropy.timeseries.TimeSeries
            Times are BJD_TDB; columns are those of the view `target_light_curve`, with units.

        Raises
        ------
        ConfigurationError
            When there is no target of this name.
        NothingToDo
            When it was measured on no frame.

        Examples
        --------
        >>> archive.targets.light_curve("HAT-P-32 b")
        """
        from starledger.quantities import target_series  # astropy and pandas take a second to import

        return target_series(self.curve(name))
