"""What the magnitude fit made of frames, and a person's word against it, from Python: part of `archive.frames`."""

from __future__ import annotations

import getpass
from collections.abc import Iterable
from typing import TYPE_CHECKING

from queries import frames

if TYPE_CHECKING:
    import pandas as pd

    from db.tables import KeptFrame
    from starledger.archive import Archive

__all__ = ["Judging"]


class Judging:
    """Verdicts on frames."""

    _archive: Archive

    def quality(self, *, night: str | None = None, all: bool = False) -> pd.DataFrame:  # noqa: A002
        """What the magnitude fit made of frames, against the references that count: verdict, reason, and the numbers behind it.

        Parameters
        ----------
        night : str, optional
            Only those of the night that began on this evening, as "2017-12-19".
        all : bool
            Also those of which there is nothing to say.

        Examples
        --------
        >>> archive.frames.quality(night="2017-12-19")
        """
        with self._archive.reading() as session:
            return frames.list_verdicts(session, night=night, whole=all)

    def keep(self, frame_ids: int | Iterable[int], reason: str, *, author: str | None = None) -> tuple[KeptFrame, ...]:
        """Keep frames, whatever the magnitude fit makes of them: the next run fits their nights anew.

        Raises
        ------
        ConfigurationError
            When there is no such frame, or no reason; nothing is changed then.

        Examples
        --------
        >>> archive.frames.keep(12, "the cloud missed our star")
        >>> archive.frames.judge(12)
        """
        who = author or getpass.getuser()
        with self._archive.writing() as session:
            return tuple(frames.keep_frame(session, frame_id, reason, who) for frame_id in _ids(frame_ids))

    def judge(self, frame_ids: int | Iterable[int]) -> None:
        """Let the magnitude fit judge frames again that a person kept.

        Raises
        ------
        ConfigurationError
            When nobody keeps one of them; nothing is changed then.

        Examples
        --------
        >>> archive.frames.keep(12, "the cloud missed our star")
        >>> archive.frames.judge(12)
        """
        with self._archive.writing() as session:
            for frame_id in _ids(frame_ids):
                frames.judge_frame(session, frame_id)


def _ids(given: int | Iterable[int]) -> tuple[int, ...]:
    return (given,) if isinstance(given, int) else tuple(given)
