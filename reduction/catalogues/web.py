"""What services may answer over the network: no more than a limit, in a time, from the host that was asked, with the data in the answer."""

from __future__ import annotations

import io
import time
import urllib.parse
from typing import Any
from xml.parsers.expat import ExpatError

import requests
import urllib3
from requests.adapters import HTTPAdapter

from reduction.catalogues.votables import refuse_references

__all__ = ["MOST_ANSWERED", "CautiousAdapter", "cautious"]

MOST_ANSWERED = 400_000_000
"""Bytes of one answer, decompressed: half a million rows of a catalogue, several times over."""

_PIECE = 2**16


class CautiousAdapter(HTTPAdapter):
    """Takes each answer whole and looks at it before anybody parses it.

    Parameters
    ----------
    url : str
        Address that is asked; answers and redirections are taken from its host alone.
    seconds : float
        Time in which an answer must have come; the time-out of a request is only for the silence within it.
    most : int
        Bytes of an answer.
    """

    def __init__(self, url: str, seconds: float, most: int = MOST_ANSWERED) -> None:
        super().__init__()
        self._origin = _origin(url)
        self._seconds = seconds
        self._most = most

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        """Send a request, or one that an answer redirects to.

        Raises
        ------
        requests.RequestException
            It goes to another host, or the answer is too long, too slow, or points to data elsewhere.
        """
        if _origin(str(request.url)) != self._origin:
            raise requests.exceptions.InvalidURL(f"refers to another host, {_origin(str(request.url))[0]}", request=request)
        return super().send(request, *arguments, **options)

    def build_response(self, req: requests.PreparedRequest, resp: urllib3.BaseHTTPResponse) -> requests.Response:
        """The answer, read."""
        content = self._read(req, resp)
        try:
            refuse_references(content)
        except ExpatError:
            pass  # no XML, or cut short, of which whoever asked complains
        except ValueError as error:
            raise requests.exceptions.ContentDecodingError(str(error), request=req) from error
        headers = {name: value for name, value in resp.headers.items() if name.lower() not in ("content-encoding", "transfer-encoding")}
        whole = urllib3.HTTPResponse(
            body=io.BytesIO(content),
            headers=headers,
            status=resp.status,
            reason=resp.reason,
            preload_content=False,
            request_method=req.method,
        )
        return super().build_response(req, whole)

    def _read(self, request: requests.PreparedRequest, answer: urllib3.BaseHTTPResponse) -> bytes:
        found = io.BytesIO()
        until = time.monotonic() + self._seconds
        try:
            while piece := answer.read1(_PIECE, decode_content=True):
                found.write(piece)
                if found.tell() > self._most:
                    raise requests.exceptions.ContentDecodingError(f"an answer of more than {self._most} bytes", request=request)
                if time.monotonic() > until:
                    raise requests.exceptions.ReadTimeout(f"the answer is not there after {self._seconds:g} s", request=request)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.exceptions.ReadTimeout(error, request=request) from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.exceptions.ChunkedEncodingError(error, request=request) from error
        finally:
            answer.close()
        return found.getvalue()


def cautious(session: requests.Session, url: str, seconds: float, most: int = MOST_ANSWERED) -> None:
    """Have all that a session asks go through a `CautiousAdapter`: no other way of asking is left."""
    session.adapters.clear()
    for scheme in ("http://", "https://"):
        session.mount(scheme, CautiousAdapter(url, seconds, most))


def _origin(url: str) -> tuple[str, int]:
    """Host and port; the usual ports of http and https are one."""
    parts = urllib.parse.urlsplit(url)
    port = parts.port or 443
    return parts.hostname or "", 443 if port == 80 else port
