"""Asking a Table Access Protocol service: asynchronous jobs, with time-outs, tried again, and never taken for whole when cut short.

pyvo speaks the protocol (IVOA TAP 1.1, UWS 1.1).
"""

from __future__ import annotations

import io
import time
import warnings
import xml.parsers.expat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from astropy.io import votable
from astropy.io.votable.exceptions import VOTableSpecError, VOWarning
from astropy.table import Table
from astropy.units import UnitsWarning
from pyvo.dal import AsyncTAPJob, DALOverflowWarning, TAPResults, TAPService
from pyvo.dal.exceptions import DALAccessError
from pyvo.utils.http import create_session

from db.errors import AlgorithmFailed
from reduction.catalogues.web import cautious

__all__ = ["Answer", "Client"]

#: What a service, the network, or a document that is no VOTable can fail with.
_FAILURES = (DALAccessError, OSError, VOTableSpecError, xml.parsers.expat.ExpatError, ValueError)
_ENDED = ("COMPLETED", "ERROR", "ABORTED")


@dataclass(frozen=True)
class Answer:
    """A table, and whether the service cut it short."""

    table: Table
    truncated: bool


@dataclass(frozen=True)
class Client:
    """A patient client of one service.

    Parameters
    ----------
    url : str
        Base address of the service.
    timeout : float
        Seconds in which a request must be answered.
    patience : float
        Seconds in which a job must end.
    attempts : int
        How often a question is asked before it fails.
    pause : float
        Seconds before the second attempt; doubled before each one after.
    max_rows : int
        Rows of one answer; the service may allow less.
    sleep : callable
        Waits for some seconds.
    """

    url: str
    timeout: float = 60.0
    patience: float = 1800.0
    attempts: int = 4
    pause: float = 5.0
    max_rows: int = 500_000
    sleep: Callable[[float], None] = time.sleep

    def ask(self, query: str) -> Answer:
        """The answer to an ADQL query.

        Raises
        ------
        AlgorithmFailed
            When all attempts failed; the message has the last reason.
        """
        reason = ""
        for attempt in range(self.attempts):
            if attempt:
                self.sleep(self.pause * 2 ** (attempt - 1))
            try:
                return self._once(query)
            except _FAILURES as error:
                reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise AlgorithmFailed(
            f"no answer in {self.attempts} attempts: {reason}",
            where=self.url,
            hint="run again with --retry when the service and the network are well; what was fetched is kept",
            code="fetch.service",
        )

    def _once(self, query: str) -> Answer:
        session = create_session()
        session.request = partial(session.request, timeout=self.timeout)
        cautious(session, self.url, self.patience)
        opened: list[Any] = []
        session.hooks["response"].append(lambda response, **_: opened.append(response))
        try:
            job = TAPService(self.url, session=session).submit_job(query, maxrec=self.max_rows)
            try:
                return self._worked(job, session)
            finally:
                self._forget(job)
        finally:
            for response in opened:  # pyvo leaves what it has read from open
                response.close()
            session.close()

    def _worked(self, job: AsyncTAPJob, session: Any) -> Answer:
        job.run()
        waited, interval = 0.0, 0.5
        while (phase := job.phase) not in _ENDED:
            if waited >= self.patience:
                raise TimeoutError(f"the job is still {phase} after {waited:.0f} s")
            self.sleep(interval)
            waited, interval = waited + interval, min(2 * interval, 20.0)
        job.raise_if_error()
        response = session.get(job.result_uri)
        response.raise_for_status()
        return self._parsed(response.content)

    def _parsed(self, content: bytes) -> Answer:
        with warnings.catch_warnings():
            # Services are loose with units and with the letter of the format; that an answer was cut short is dealt with.
            for category in (VOWarning, UnitsWarning, DALOverflowWarning):
                warnings.simplefilter("ignore", category)
            results = TAPResults(votable.parse(io.BytesIO(content)), url=self.url)
            table = results.to_table()
        return Answer(table, results.query_status == "OVERFLOW" or len(table) >= self.max_rows)

    def _forget(self, job: AsyncTAPJob) -> None:
        """Jobs that nobody deletes stand on the service's disk for days; one that cannot be deleted is no failure."""
        try:
            job.delete()
        except (DALAccessError, OSError):
            return
