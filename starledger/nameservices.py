"""Three services that know stars by name: SIMBAD, VSX (at VizieR) and the NASA Exoplanet Archive, each asked through astroquery.

Hosts are those of astroquery's configuration; `Service.variable` names the environment variable that puts another root, such as a
mirror's, in the place of ``https://<host>``. astroquery gives most of its requests no time limit: see `ask`.
"""

from __future__ import annotations

import multiprocessing
import os
import urllib.parse
import warnings
import xml.parsers.expat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import Any

import requests
import urllib3
from astropy.io.votable.exceptions import VOTableSpecError, VOWarning
from astropy.units import UnitsWarning
from astroquery.exceptions import EmptyResponseError, InvalidQueryError, NoResultsWarning, RemoteServiceError, TableParseError
from astroquery.ipac.nexsci import nasa_exoplanet_archive
from astroquery.simbad import SimbadClass
from astroquery.vizier import VizierClass
from pyvo.dal import DALOverflowWarning
from pyvo.dal.exceptions import DALAccessError
from pyvo.io.vosi.exceptions import VOSIWarning

from db.errors import AlgorithmFailed, ConfigurationError
from reduction.catalogues.web import cautious
from starledger.nameanswers import Answer, planet_answer, simbad_answer, vsx_answer

__all__ = ["EXOPLANETS", "SERVICES", "SIMBAD", "VSX", "Question", "Service", "ask"]

#: What a service, the network, or a document that is not what it should be can fail with.
_FAILURES = (
    *(DALAccessError, OSError, VOTableSpecError, xml.parsers.expat.ExpatError, ValueError, KeyError, urllib3.exceptions.HTTPError),
    *(InvalidQueryError, RemoteServiceError, TableParseError, EmptyResponseError, multiprocessing.TimeoutError),
)
#: Bytes of an answer, which is of a few rows.
_MOST_ANSWERED = 20_000_000
#: Arcsec around a known place in which a variable is the star meant; places in VSX are good to an arcsec or better.
_VSX_RADIUS = 5.0
_VSX = "B/vsx/vsx"
_VSX_COLUMNS = (
    *("OID", "Name", "V", "RAJ2000", "DEJ2000", "Type", "max", "n_max", "f_min", "min", "n_min"),
    *("Epoch", "u_Epoch", "l_Period", "Period", "u_Period"),
)
_PLANET_COLUMNS = (
    *("pl_name", "hostname", "ra", "dec", "default_flag", "pl_pubdate", "pl_refname", "pl_tsystemref"),
    *("pl_orbper", "pl_tranmid", "pl_trandur", "pl_trandep"),
)


@dataclass(frozen=True)
class Question:
    """What is asked for.

    Attributes
    ----------
    name : str
        A star's, variable's or planet's.
    place : (float, float) or None
        RA and Dec (degree, ICRS) where they are known already.
    """

    name: str
    place: tuple[float, float] | None = None


@dataclass(frozen=True)
class Service:
    """A service that knows names.

    Attributes
    ----------
    name : str
        For people, and for the columns that say where something is from.
    variable : str
        Environment variable that names a mirror's root.
    root : callable
        Gives the scheme and host of a client's addresses.
    client : callable
        Makes a client of astroquery.
    question : callable
        Asks the client; None where the name is not known.
    """

    name: str
    variable: str
    root: Callable[[Any], str]
    client: Callable[[], Any]
    question: Callable[[Any, Question], Answer | None]


def ask(service: Service, question: Question, timeout: float) -> Answer | None:
    """What a service says to a question.

    Parameters
    ----------
    service : Service
    question : Question
    timeout : float
        Seconds after which the service is given up, whatever it is doing: neither looking up its address nor an answer that comes
        drop by drop would end by itself.

    Returns
    -------
    Answer or None
        None where the service does not know the name.

    Raises
    ------
    AlgorithmFailed
        Without an answer in time, or with one that cannot be used; it says which.
    ConfigurationError
        For a mirror that is no address.
    """
    mirror = os.environ.get(service.variable, "").rstrip("/")
    if mirror and not mirror.startswith(("http://", "https://")):
        raise ConfigurationError(
            f"no address of a mirror: {mirror!r}", where=f"${service.variable}", hint="it begins with https://", code="resolve.mirror"
        )
    client = service.client()
    root = service.root(client)
    pool = ThreadPool(1)  # its thread is a daemon: one that hangs does not keep the program from ending
    try:
        with _lenient():
            session = _Session(root, mirror, timeout, client._session)
            return pool.apply_async(_asked, (service, client, session, question)).get(timeout)
    except _FAILURES as error:
        what, hint = _cause(error, timeout)
        raise AlgorithmFailed(what, where=f"{service.name} ({mirror or root})", hint=hint, code="resolve.service") from error
    finally:
        pool.close()


def _asked(service: Service, client: Any, session: _Session, question: Question) -> Answer | None:
    # Closed in the thread that reads: elsewhere closing would wait for what is being read.
    with session:
        client._session = session  # astroquery has no public way to give its clients a session
        return service.question(client, question)


class _Session(requests.Session):
    """A session whose requests have a time limit and must succeed, and in which a mirror may take the place of a host."""

    def __init__(self, root: str, mirror: str, timeout: float, like: requests.Session) -> None:
        super().__init__()
        self.headers.update(like.headers)  # they say who asks
        cautious(self, mirror or root, timeout, _MOST_ANSWERED)
        self.root, self.mirror, self.timeout = root, mirror, timeout
        self.opened: list[requests.Response] = []

    def request(self, method: Any, url: Any, *arguments: Any, **options: Any) -> requests.Response:
        if self.mirror and str(url).startswith(self.root):
            url = self.mirror + str(url).removeprefix(self.root)
        response = super().request(method, url, *arguments, **{**options, "timeout": self.timeout})
        self.opened.append(response)
        response.raise_for_status()
        return response

    def close(self) -> None:
        for response in self.opened:  # pyvo leaves what it has read from open
            response.close()
        super().close()


@contextmanager
def _lenient() -> Iterator[None]:
    """Services are loose with units and with the letter of the format; that nothing was found is an answer like any other."""
    with warnings.catch_warnings():
        for category in (VOWarning, VOSIWarning, UnitsWarning, DALOverflowWarning, NoResultsWarning):
            warnings.simplefilter("ignore", category)
        yield


def _cause(error: BaseException, timeout: float) -> tuple[str, str]:
    """What went wrong, and what to do; some clients raise an error of their own in the place of the network's."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    # Not urllib3's TimeoutError: a connection that was refused is one, too.
    late = (requests.Timeout, urllib3.exceptions.ReadTimeoutError, multiprocessing.TimeoutError, TimeoutError)
    if any(isinstance(one, late) for one in chain):
        return f"no answer within {timeout:g} s", "give it longer with --timeout, or try later"
    if any(isinstance(one, requests.ConnectionError) for one in chain):
        return "cannot be reached", "is the network there?"
    reason = " ".join(str(chain[-1]).split())[:200] or type(chain[-1]).__name__
    return f"its answer cannot be used: {reason}", "try later"


def _adql(text: str) -> str:
    return text.replace("'", "''")


class _Simbad(SimbadClass):  # type: ignore[misc]  # astroquery has no types
    """The client, without asking what the service is capable of; pyvo does that under a lock, which an answer in vain would keep."""

    hardlimit = 1000


def _ask_simbad(client: _Simbad, question: Question) -> Answer | None:
    columns = ", ".join(f'basic."{name}"' for name in ("main_id", "ra", "dec", "otype", "coo_bibcode"))
    name = _adql(question.name)
    query = f'SELECT {columns} FROM basic JOIN ident ON basic."oid" = ident."oidref" WHERE ident."id" = \'{name}\''
    return simbad_answer(client.query_tap(query, maxrec=2))


def _ask_vsx(client: VizierClass, question: Question) -> Answer | None:
    # Answers are not kept: astroquery would keep them for a week, in files.
    if question.place is None:
        found = client.query_constraints(catalog=_VSX, cache=False, Name=f"={question.name}")
    else:
        from astropy.coordinates import SkyCoord
        from astropy.units import Quantity

        found = client.query_region(
            SkyCoord(*question.place, unit="deg"), radius=Quantity(_VSX_RADIUS, "arcsec"), catalog=_VSX, cache=False
        )
    if found is None:
        raise ValueError("no VOTable")
    return vsx_answer(found[0], question.place) if len(found) else None


class _Planets(nasa_exoplanet_archive.NasaExoplanetArchiveClass):  # type: ignore[misc]  # astroquery has no types
    """The client, with two requests less that would have no time limit: the list of tables, and names without a session."""

    TAP_TABLES = ("ps",)

    def _request_query_aliases(self, object_name: str) -> Any:
        url = nasa_exoplanet_archive.conf.url_aliaslookup + urllib.parse.quote(object_name)
        return self._session.get(url).json()


def _ask_exoplanets(client: _Planets, question: Question) -> Answer | None:
    try:
        names = client.query_aliases(question.name)
    except (requests.HTTPError, ValueError, TypeError, AttributeError):
        names = []  # the name as it is may be the one that the archive uses
    name = _adql(names[0] if names else question.name)
    where = f"pl_name='{name}' or hostname='{name}'"
    found = client.query_criteria_async("ps", select=_PLANET_COLUMNS, where=where).to_table()
    return planet_answer(found, names[0] if names else question.name)


def _host(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


SIMBAD = Service("SIMBAD", "STARLEDGER_SIMBAD", lambda client: f"https://{client.server}", _Simbad, _ask_simbad)
VSX = Service(
    "VSX",
    "STARLEDGER_VIZIER",
    lambda client: f"https://{client.VIZIER_SERVER}",
    lambda: VizierClass(columns=list(_VSX_COLUMNS)),
    _ask_vsx,
)
EXOPLANETS = Service("NASA Exoplanet Archive", "STARLEDGER_EXOPLANETS", lambda client: _host(client.URL_TAP), _Planets, _ask_exoplanets)
SERVICES = (EXOPLANETS, SIMBAD, VSX)
