"""A stand-in for a TAP service: asynchronous jobs (UWS), VOTables, and everything that goes wrong with them."""

from __future__ import annotations

import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from astropy.table import Table

__all__ = ["Service", "serving", "votable"]

_JOB = (
    '<?xml version="1.0"?><uws:job xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1">'
    "<uws:jobId>{key}</uws:jobId><uws:ownerId/><uws:phase>{phase}</uws:phase><uws:quote/><uws:startTime/><uws:endTime/>"
    "<uws:executionDuration>0</uws:executionDuration><uws:destruction/><uws:parameters/>"
    '<uws:results><uws:result id="result" xlink:href="{url}/async/{key}/results/result"/></uws:results>{error}</uws:job>'
)
_ERROR = '<uws:errorSummary type="transient"><uws:message>out of memory</uws:message></uws:errorSummary>'
_TYPES = {"f": 'datatype="double"', "i": 'datatype="long"', "U": 'datatype="char" arraysize="*"'}


@dataclass
class Service:
    """What the service has, what it was asked, and what it shall do wrong next.

    `faults` are taken one by one, each by the next job: 'http' (503 on submission), 'slow' (no answer in time), 'error' (the job
    fails), 'hang' (the job never ends), 'drop' (the connection breaks within the result), 'malformed' (a result that is no VOTable),
    'half' (XML that ends too early). `max_rows` is the service's own limit.
    """

    table: Table
    max_rows: int = 10**9
    declares_overflow: bool = True
    faults: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    deleted: int = 0
    url: str = ""
    release: threading.Event = field(default_factory=threading.Event)
    on_job: Callable[[int], None] = lambda _: None
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def answer(self, query: str, maxrec: int) -> bytes:
        """The VOTable for a query: rows by Gaia's identifiers or in a circle, by magnitude, cut at the limit."""
        rows = self.table[self._wanted(query)]
        limit = min(maxrec, self.max_rows)
        status = "OK"
        if len(rows) > limit:
            rows, status = rows[:limit], "OVERFLOW" if self.declares_overflow else "OK"
        columns = [name.strip().strip('"') for name in re.search(r"SELECT (.*?) FROM", query)[1].split(",")]  # type: ignore[index]
        return votable(rows[columns], status)

    def _wanted(self, query: str) -> np.ndarray:
        column, limit = re.search(r'AND "?([\w\']+)"? <= ([\d.]+)', query).groups()  # type: ignore[union-attr]
        good = np.asarray(self.table[column]) <= float(limit)
        if pixel := re.search(r"BETWEEN (\d+) AND (\d+)", query):
            return good & (self.table["source_id"] >= int(pixel[1])) & (self.table["source_id"] <= int(pixel[2]))
        ra0, dec0, radius = (float(v) for v in re.search(r"CIRCLE\('ICRS', ([^)]*)\)", query)[1].split(","))  # type: ignore[index]
        ra, dec = (name.strip() for name in re.search(r"POINT\('ICRS', ([^)]*)\)", query)[1].split(","))  # type: ignore[index]
        a, d = np.radians(self.table[ra]), np.radians(self.table[dec])
        cosine = np.sin(d) * np.sin(np.radians(dec0)) + np.cos(d) * np.cos(np.radians(dec0)) * np.cos(a - np.radians(ra0))
        return good & (cosine >= np.cos(np.radians(radius)))


def votable(rows: Table, status: str = "OK") -> bytes:
    """A table as a service sends it."""

    def cell(value: Any) -> str:
        return "<TD/>" if value is np.ma.masked or value != value else f"<TD>{escape(str(value))}</TD>"

    def unit(name: str) -> str:
        return f' unit="{rows[name].unit}"' if rows[name].unit else ""

    fields = "".join(f'<FIELD name="{name}" {_TYPES[rows[name].dtype.kind]}{unit(name)}/>' for name in rows.colnames)
    body = "".join("<TR>" + "".join(cell(value) for value in row) + "</TR>" for row in rows)
    return (
        '<?xml version="1.0"?><VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">'
        f'<INFO name="QUERY_STATUS" value="OK"/><TABLE>{fields}<DATA><TABLEDATA>{body}</TABLEDATA></DATA></TABLE>'
        f'<INFO name="QUERY_STATUS" value="{status}"/></RESOURCE></VOTABLE>'
    ).encode()


class _Handler(BaseHTTPRequestHandler):
    """Speaks for `service`, which a subclass sets."""

    service: Service
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def log_message(self, *_: Any) -> None: ...

    def reply(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        service = self.service
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()))
        parts = self.path.strip("/").split("/")
        if parts[-1] == "phase":
            service.jobs[parts[-2]]["phase"] = "EXECUTING"
            self.reply(303, Location=f"{service.url}/async/{parts[-2]}")
            return
        service.queries.append(form["QUERY"])
        service.on_job(len(service.queries))
        fault = service.faults.pop(0) if service.faults else ""
        if fault == "http":
            self.reply(503, b"try later")
            return
        if fault == "slow":
            service.release.wait(20)
        key = f"job{len(service.queries)}"
        service.jobs[key] = {"phase": "PENDING", "fault": fault, "query": form["QUERY"], "maxrec": int(form.get("MAXREC", 2000))}
        self.reply(303, Location=f"{service.url}/async/{key}")

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        job = self.service.jobs[parts[2]]
        if parts[-1] == "result":
            self.result(job)
            return
        phase = job["phase"]
        if phase == "EXECUTING":
            job["phase"] = {"error": "ERROR", "hang": "EXECUTING"}.get(job["fault"], "COMPLETED")
        text = _JOB.format(key=parts[2], phase=phase, url=self.service.url, error=_ERROR if phase == "ERROR" else "")
        self.reply(200, text.encode(), **{"Content-Type": "text/xml"})

    def result(self, job: dict[str, Any]) -> None:
        body = self.service.answer(job["query"], job["maxrec"])
        if job["fault"] == "malformed":
            body = b"<html><body>The service is down for maintenance.</body></html>"
        if job["fault"] == "half":
            body = body[: len(body) // 2]
        if job["fault"] != "drop":
            self.reply(200, body, **{"Content-Type": "application/x-votable+xml"})
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.close_connection = True

    def do_DELETE(self) -> None:
        self.service.deleted += 1
        self.reply(303, Location=f"{self.service.url}/async")


@contextmanager
def serving(table: Table, **options: Any) -> Iterator[Service]:
    """A service on this machine for as long as the block lasts."""
    service = Service(table, **options)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": service}))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients may hang up
    service.url = f"http://127.0.0.1:{server.server_address[1]}/tap"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.release.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
