"""The photometric references from Python: `archive.references`."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

from queries import references

if TYPE_CHECKING:
    import pandas as pd

    from db.tables import MagfitReference, ReferenceRequest
    from starledger.archive import Archive

__all__ = ["References"]


class References:
    """What magnitudes refer to, field by field: `archive.references`."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def list(self, field: int | None = None) -> pd.DataFrame:
        """The references of a field, or of all fields: which count, from how many nights, how far they settled, why they were made.

        Raises
        ------
        ConfigurationError
            When there is no such field.

        Examples
        --------
        >>> archive.references.list()
        """
        with self._archive.reading() as session:
            return references.list_references(session, field)

    def scores(self, reference: int) -> pd.DataFrame:
        """The scores by which a reference's first frame was chosen, the best first; `reference` is its reference_id.

        Raises
        ------
        ConfigurationError
            When there is no such reference.

        Examples
        --------
        >>> archive.references.scores(2)
        """
        with self._archive.reading() as session:
            return references.frame_scores(session, int(reference))

    def joint(self, field: int) -> pd.DataFrame:
        """How far the reference that counts is from the joint solution for all stars and frames of all nights, by half magnitude.

        All nights of the field are read, and are in memory together. The solution begins with the reference: what no data hold
        of it stays, and what differs is what fits and averages in turn did not reach.

        Parameters
        ----------
        field : int
            field_id.

        Returns
        -------
        DataFrame
            mag_from, n_star, shift, rms_difference and scatter (1.48 MAD; mag) of the joint magnitudes less those of the reference:
            variable stars, whose mean depends on how it is taken, are in the rms and not in the scatter.

        Raises
        ------
        ConfigurationError
            When the field has no reference that counts.

        Examples
        --------
        >>> archive.references.joint(1)
        """
        import numpy as np
        import pandas as pd

        from reduction.lightcurves.season_reference import joint_magnitudes
        from reduction.pipeline.order import STEPS
        from starledger.configuration import settings_in_force

        settings = settings_in_force(self._archive)
        fit, limits = (STEPS[name].read_parameters(settings) for name in ("magnitude_fit", "magnitude_reference"))
        with self._archive.reading() as session:
            found = joint_magnitudes(session, references.counting_reference(session, field), fit, limits)
        both = np.isfinite(found.stored) & np.isfinite(found.joint)
        stars = pd.DataFrame({"mag_from": np.floor(2.0 * found.stored[both]) / 2.0, "off": (found.joint - found.stored)[both]})
        bins = stars.groupby("mag_from")["off"]
        return bins.agg(
            n_star="size",
            shift="median",
            rms_difference=lambda off: float(np.sqrt(np.mean(off**2))),
            scatter=lambda off: 1.4826 * float(np.median(np.abs(off))),
        ).reset_index()

    def terms(self, reference: int) -> pd.DataFrame:
        """The orders and terms that were tried for the fits to a reference, and how they did on held-out stars.

        Raises
        ------
        ConfigurationError
            When there is no such reference.

        Examples
        --------
        >>> archive.references.terms(2)
        """
        with self._archive.reading() as session:
            return references.term_scores(session, int(reference))

    def compare(self, field: int, new: int | None = None, old: int | None = None) -> pd.DataFrame:
        """Two references star by star, by half magnitude: shift, scatter about either, how many stars scatter less about the new one.

        Parameters
        ----------
        field : int
            field_id.
        new, old : int, optional
            reference_id of each; the newest two when omitted.

        Raises
        ------
        ConfigurationError
            When the field has not two references, or not these.

        Examples
        --------
        >>> archive.references.new(1, "twelve nights instead of one")
        >>> archive.reduce(steps=["magnitude_reference", "magnitude_fit"])
        >>> archive.references.compare(1)
        """
        with self._archive.reading() as session:
            chosen, before, frame = references.compare_references(session, field, new, old)
        frame.attrs.update(new=chosen, old=before)
        return frame

    def new(
        self, field: int, reason: str, *, frame: int | None = None, hold: bool = False, author: str | None = None
    ) -> ReferenceRequest:  # fmt: skip
        """Ask for a new reference of a field: the next `reduce` makes it, fits every night to it, and then lets it count.

        Parameters
        ----------
        field : int
            field_id.
        reason : str
            Why.
        frame : int, optional
            frame_id to begin with; else the means of nights that are kept are averaged anew.
        hold : bool
            Let it wait to be accepted by hand.
        author : str, optional
            Who asks; your user name when omitted.

        Raises
        ------
        ConfigurationError
            When there is no such field or frame, or no reason.

        Examples
        --------
        >>> archive.references.new(1, "twelve nights instead of one")
        """
        with self._archive.writing() as session:
            return references.ask_reference(session, field, reason, author or getpass.getuser(), frame_id=frame, hold=hold)

    def accept(self, field: int, reason: str, *, reference: int | None = None, author: str | None = None) -> MagfitReference:
        """Let a reference count: the newest candidate of the field, or the one named; light curves are its at once.

        Raises
        ------
        ConfigurationError
            When there is no such reference, its rows were purged, it counts already, or there is no reason.

        Examples
        --------
        >>> latest = archive.references.list(1)["reference_id"].iloc[-1]
        >>> archive.references.retract(1, "made of nights with dew")
        >>> archive.references.accept(1, "it was no dew", reference=latest)
        """
        with self._archive.writing() as session:
            return references.accept_reference(session, field, reason, author or getpass.getuser(), _id(reference))

    def retract(self, field: int, reason: str, *, reference: int | None = None, author: str | None = None) -> MagfitReference | None:
        """Take a reference back: the one that counts, or the one named. The one accepted before it counts again.

        Returns
        -------
        MagfitReference or None
            The one that counts now; nights that were not fitted to it are pending. None when the field has none any more.

        Raises
        ------
        ConfigurationError
            When there is no such reference, it was retracted before, or there is no reason.

        Examples
        --------
        >>> archive.references.retract(1, "made of nights with dew")
        """
        with self._archive.writing() as session:
            return references.retract_reference(session, field, reason, author or getpass.getuser(), _id(reference))

    def purge(self, field: int, reason: str, *, keep: int = 2, author: str | None = None) -> tuple[int, ...]:
        """Delete the magnitudes and fits of references that no light curve is of; the newest `keep` accepted ones stay.

        Returns
        -------
        tuple of int
            reference_id of those whose rows are gone.

        Raises
        ------
        ConfigurationError
            When there is no such field, or no reason.

        Examples
        --------
        >>> archive.references.purge(1, "the season is over")
        """
        with self._archive.writing() as session:
            return tuple(references.purge_references(session, field, reason, author or getpass.getuser(), keep=keep))


def _id(given: int | None) -> int | None:
    """An id as the archive has it; those of numpy and pandas are integers, too."""
    return None if given is None else int(given)
