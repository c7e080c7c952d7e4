"""What people say of an archive, from Python: `archive.targets`, and `masks`, `frames`, `masters` and `nights` likewise.

Each method that writes is the archive's one writer while it runs, and writes all of what it was asked for or nothing. What it
returns is the row as it was written.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from queries import annotations as maskings
from queries import frames, masters
from starledger.judging import Judging
from starledger.paths import one_path
from starledger.references import References
from starledger.targets import Targets

if TYPE_CHECKING:
    import pandas as pd
    from photutils.psf import GriddedPSFModel

    from db.tables import Annotation, MasterChoice, Product, TypeCorrection
    from reduction.photometry.kernels.psf_map import PsfMap
    from reduction.photometry.model_frame import ModelFrame
    from starledger.archive import Archive

__all__ = ["Frames", "Masks", "Masters", "Nights", "References", "Targets"]


class _Namespace:
    def __init__(self, archive: Archive) -> None:
        self._archive = archive


class Masks(_Namespace):
    """What you know to be bad: frames, points and products, each with its reason and who said so."""

    def frame(self, frame_id: int, reason: str, *, author: str | None = None) -> Annotation:
        """Mask a whole frame: its points get quality 2 in every light curve.

        Parameters
        ----------
        frame_id : int
            As in the views light_curve and frame_quality.
        reason : str
            Why; it is kept with the masking.
        author : str, optional
            Who says so; the user's login name when omitted.

        Raises
        ------
        ConfigurationError
            When there is no such frame, or no reason.

        Examples
        --------
        >>> archive.masks.frame(17, "satellite through the field")
        """
        with self._archive.writing() as session:
            return maskings.mask_frame(session, int(frame_id), reason, author or getpass.getuser())

    def point(self, frame_id: int, source_id: int, reason: str, *, author: str | None = None) -> Annotation:
        """Mask one point of one light curve: it gets quality 2. Parameters as for `frame`.

        Raises
        ------
        ConfigurationError
            When there is no such frame or source, or no reason.

        Examples
        --------
        >>> archive.masks.point(17, star, "cosmic ray")
        """
        with self._archive.writing() as session:
            return maskings.mask_point(session, int(frame_id), int(source_id), reason, author or getpass.getuser())

    def product(self, product_id: int, reason: str) -> Product:
        """Reject a product, such as a master flat: it is no longer used, and the next run makes anew what it was used for.

        Raises
        ------
        ConfigurationError
            When there is no such product, or no reason.

        Examples
        --------
        >>> archive.masks.product(3, "dew on the window")
        >>> archive.masks.accept(3)
        """
        with self._archive.writing() as session:
            return maskings.mask_product(session, int(product_id), reason)

    def accept(self, product_id: int) -> Product:
        """Accept a product again that was rejected.

        Raises
        ------
        ConfigurationError
            When there is no such product, or it was not rejected.

        Examples
        --------
        >>> archive.masks.product(3, "dew on the window")
        >>> archive.masks.accept(3)
        """
        with self._archive.writing() as session:
            return maskings.unmask_product(session, int(product_id))

    def list(self) -> pd.DataFrame:
        """The maskings of frames and points: annotation_id, frame_id, path of the raw file, source_id, reason, author, created.

        Examples
        --------
        >>> archive.masks.list()
        """
        with self._archive.reading() as session:
            return maskings.list_masks(session)

    def remove(self, mask: int) -> None:
        """Take a masking of a frame or a point back; `mask` is its annotation_id.

        Raises
        ------
        ConfigurationError
            When there is no such masking.

        Examples
        --------
        >>> mask = archive.masks.frame(17, "satellite through the field")
        >>> archive.masks.remove(mask.annotation_id)
        """
        with self._archive.writing() as session:
            maskings.unmask(session, int(mask))


class Frames(_Namespace, Judging):
    """What each frame was taken for, and your corrections."""

    def list(self, *, night: str | None = None, type: str | None = None, doubtful: bool = False) -> pd.DataFrame:  # noqa: A002
        """The frames in order of time: type, how sure it is, what the header says, reason, evidence, failure.

        Parameters
        ----------
        night : str, optional
            Only those of the night that began on this evening, as "2017-12-19".
        type : str, optional
            Only those that are bias, dark, flat, object or other.
        doubtful : bool
            Only those whose header says otherwise than the pixels, or that are not sure.

        Raises
        ------
        ConfigurationError
            When there is no such type.

        Examples
        --------
        >>> archive.frames.list(type="flat")
        """
        with self._archive.reading() as session:
            return frames.list_frames(session, night=night, type=type, doubtful=doubtful)

    def psf(self, frame_id: int, *, colour: float | None = None, brightness: float | None = None) -> GriddedPSFModel:
        """The profile of stars over a frame, as a model that photutils fits, renders and draws.

        Parameters
        ----------
        frame_id : int
            A solved object frame.
        colour : float, optional
            Of the star (mag), where the profile changes with it; without, the profile is that of a star of median colour.
        brightness : float, optional
            The same of its flux, in units of that of a star of 12 mag.

        Returns
        -------
        photutils.psf.GriddedPSFModel
            Of unit flux, four points a pixel; positions in pixels, 0-based pixel centres.

        Raises
        ------
        ConfigurationError
            When the frame has no profile map.

        Examples
        --------
        >>> model = archive.frames.psf(15)
        >>> model(10.0, 12.0)  # a pixel's share of a star at 0, 0
        """
        from reduction.photometry.psf_model import gridded_model

        known = {"colour": colour, "brightness": brightness}
        return gridded_model(self._psf_map(frame_id), traits={name: value for name, value in known.items() if value is not None})

    def psf_summary(self, frame_id: int) -> pd.Series:
        """What is known of the profile map that a frame is measured with: the columns of `psf_map`, but for the coefficients.

        Of a map that it shares with other frames of the night they are that map's, and `whose` is "shared", else "own"; then
        `n_frame` frames share it, and `reason` says why the frame does.

        Raises
        ------
        ConfigurationError
            When the frame has no profile map.

        Examples
        --------
        >>> archive.frames.psf_summary(15)["fwhm"]
        """
        import pandas as pd

        with self._archive.reading() as session:
            row = frames.psf_row(session, frame_id)
            found = {column.name: getattr(row, column.name) for column in row.__table__.columns if column.name != "coeff"}
            found |= {"whose": "own", "n_frame": 1}
            chosen = frames.psf_choice_rows(session, frame_id)
            if chosen is not None and chosen[1] is not None:
                choice, shared = chosen
                same = ("kind", "poly_order", "pixel", "n_coeff", "n_star", "chi2", "held_out", "roughness", "n_frame", "task_id", "terms")
                found |= {name: getattr(shared, name) for name in same}
                found |= {name: getattr(shared, name) * choice.width for name in ("radius", "fwhm")}
                found |= {"whose": "shared", "reason": choice.reason, "terms_held_out": None}
                found |= {name: None for name in found if name.endswith("_error")}  # not known of a shared map
            return pd.Series(found)

    def plot_psf(self, frame_id: int, path: str | os.PathLike[str]) -> None:
        """Draw the profile at places over a frame, and what bright stars have beyond it, into a .png, .pdf or .svg file.

        Raises
        ------
        ConfigurationError
            When the frame has no profile map, or the file cannot be written.

        Examples
        --------
        >>> archive.frames.plot_psf(15, "psf.png")
        """
        from starledger.plots import plot_psf

        psf = self._psf_map(frame_id)
        middle = ((psf.nx - 1) / 2.0, (psf.ny - 1) / 2.0)
        title = f"frame {frame_id}: profile of stars, FWHM {psf.fwhm(*middle):.2f} pixel"
        plot_psf(psf, one_path(path), title, self.model(frame_id).stacked)

    def model(self, frame_id: int) -> ModelFrame:
        """The frame as its profile map and all sources' fluxes say it should look: model, background, residual, pull, stacked residual.

        Raises
        ------
        ConfigurationError
            When the frame has no profile map.

        Examples
        --------
        >>> archive.frames.model(15).residual.std()
        """
        from reduction.photometry.model_frame import model_frame

        with self._archive.reading() as session:
            frames.psf_row(session, frame_id)
            return model_frame(session, self._archive.files, frame_id)

    def write_model(self, frame_id: int, path: str | os.PathLike[str]) -> None:
        """Write the planes MODEL, SKY, RESIDUAL and PULL of a frame into a FITS file.

        Raises
        ------
        ConfigurationError
            When the frame has no profile map.
        ArchiveUnavailable
            When the file cannot be written.

        Examples
        --------
        >>> archive.frames.write_model(15, "model.fits")
        """
        from reduction.files.product import write_image

        found = self.model(frame_id)
        planes = {"MODEL": found.model, "SKY": found.background, "RESIDUAL": found.residual, "PULL": found.pull}
        write_image(one_path(path), planes, {"FRAME": frame_id})

    def _psf_map(self, frame_id: int) -> PsfMap:
        from reduction.photometry.psf_model import psf_map_of

        with self._archive.reading() as session:
            frames.psf_row(session, frame_id)
            return psf_map_of(session, frame_id)

    def set(
        self,
        type: str,  # noqa: A002
        frame_ids: int | Iterable[int],
        reason: str,
        *,
        author: str | None = None,
    ) -> tuple[TypeCorrection, ...]:
        """Say what frames are: it wins over pixels and header, and the next run makes anew what depends on it.

        Parameters
        ----------
        type : str
            bias, dark, flat, object or other.
        frame_ids : int or iterable of int
            All channels of a frame's exposure take it.
        reason : str
            Why; it is kept with the correction.
        author : str, optional
            Who says so; the user's login name when omitted.

        Raises
        ------
        ConfigurationError
            When there is no such frame or type, or no reason; no frame is corrected then.

        Examples
        --------
        >>> archive.frames.set("other", [12, 13], "the dome was in the way")
        >>> archive.frames.unset([12, 13])
        """
        who = author or getpass.getuser()
        with self._archive.writing() as session:
            return tuple(frames.correct_type(session, frame_id, type, reason, who) for frame_id in _ids(frame_ids))

    def unset(self, frame_ids: int | Iterable[int], *, author: str | None = None) -> tuple[TypeCorrection, ...]:
        """Take corrections back: pixels and header decide again.

        Raises
        ------
        ConfigurationError
            When there is no such frame, or nobody corrected one of them; nothing is taken back then.

        Examples
        --------
        >>> archive.frames.set("other", 12, "the dome was in the way")
        >>> archive.frames.unset(12)
        """
        who = author or getpass.getuser()
        with self._archive.writing() as session:
            return tuple(frames.take_back_correction(session, frame_id, who) for frame_id in _ids(frame_ids))


class Masters(_Namespace):
    """Master bias, dark and flat frames: their state, and which to use."""

    def list(self, *, all: bool = False) -> pd.DataFrame:  # noqa: A002
        """The masters in order of time: from how many frames, how good, their state, how often used; with `all`, superseded ones, too.

        Examples
        --------
        >>> archive.masters.list()
        """
        with self._archive.reading() as session:
            return masters.list_masters(session, whole=all)

    def use(
        self, master_id: int, reason: str, *, night: str | None = None, frame: int | None = None, author: str | None = None
    ) -> MasterChoice:
        """Use this master for a night or a frame, whatever the rule says.

        Parameters
        ----------
        master_id : int
            The master; a good one.
        reason : str
            Why; it is kept with the choice.
        night : str, optional
            The night that began on this evening, as "2017-12-19".
        frame : int, optional
            One frame, by its frame_id; either this or `night`.
        author : str, optional
            Who says so; the user's login name when omitted.

        Raises
        ------
        ConfigurationError
            When there is no such master, night or frame, the master is not good or of another set-up, or there is no reason.

        Examples
        --------
        >>> archive.masters.use(1, "the night's own were warm", night="2026-03-24")
        """
        with self._archive.writing() as session:
            who = author or getpass.getuser()
            return masters.choose_master(session, int(master_id), reason, who, night=night, frame_id=frame)

    def refuse(
        self, kind: str, reason: str, *, night: str | None = None, frame: int | None = None, author: str | None = None
    ) -> tuple[MasterChoice, ...]:
        """Use no master of a kind (bias, dark or flat) for a night or a frame; a choice for each of its set-ups and channels.

        The other parameters are those of `use`.

        Raises
        ------
        ConfigurationError
            When there is no such kind, night or frame, or no reason.

        Examples
        --------
        >>> archive.masters.refuse("flat", "another window", night="2026-03-24")
        """
        with self._archive.writing() as session:
            who = author or getpass.getuser()
            return tuple(masters.refuse_masters(session, kind, reason, who, night=night, frame_id=frame))

    def choices(self) -> pd.DataFrame:
        """The choices that people made over the rule, with their reasons.

        Examples
        --------
        >>> archive.masters.choices()
        """
        with self._archive.reading() as session:
            return masters.list_choices(session)

    def undo(self, choice: int) -> MasterChoice:
        """Take a choice back: the rule decides again; `choice` is its choice_id.

        Raises
        ------
        ConfigurationError
            When there is no such choice, or it was taken back before.

        Examples
        --------
        >>> choice = archive.masters.use(1, "the night's own were warm", night="2026-03-24")
        >>> archive.masters.undo(choice.choice_id)
        """
        with self._archive.writing() as session:
            return masters.take_back_choice(session, int(choice))


def _ids(given: int | Iterable[int]) -> tuple[int, ...]:
    """One id or several; those of numpy and pandas are integers, too."""
    return tuple(int(one) for one in given) if isinstance(given, Iterable) else (int(given),)


class Nights(_Namespace):
    """Nights whose measurements are put into the order of the sources."""

    def open(self) -> dict[str, int]:
        """Nights that are open, and how many of the results that their frames have in common are provisional.

        Returns
        -------
        dict of str to int
            By evening (ISO date), rising; also of nights that are over, until the next reduction has closed them.

        Examples
        --------
        >>> archive.nights.open()
        """
        from starledger.closing import nights_open

        return nights_open(self._archive)

    def close(self, nights: str | Iterable[str] = (), *, jobs: int = 1) -> list[str]:
        """Close nights now; a reduction closes each night that is over.

        A night is over when local mean solar noon has come to its observatory. What its frames have in common is then made of all of
        them, and frames are measured anew that this changes by more than a tolerance ([open_nights] of the configuration). Frames of a
        closed night may still come, and the next reduction puts them there. On PostgreSQL, partitions of which all nights are closed
        are frozen.

        Parameters
        ----------
        nights : str or iterable of str
            Evenings (ISO dates), whether or not they are over; all nights that are when omitted.
        jobs : int
            Processes; 0: one a processor.

        Returns
        -------
        list of str
            Evenings of the nights that had measurements to move.

        Raises
        ------
        ConfigurationError
            When the archive has no frame of such a night; nothing is changed then.
        ArchiveUnavailable
            When another program writes.

        Examples
        --------
        >>> archive.nights.close()
        """
        from starledger.closing import close_nights

        return close_nights(self._archive, [nights] if isinstance(nights, str) else list(nights), jobs=jobs)
