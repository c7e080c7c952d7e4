"""A stand-in for SIMBAD, VizieR with VSX, and the NASA Exoplanet Archive: it answers what was asked, or goes wrong as they do."""

from __future__ import annotations

import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, Table
from tap_service import votable

__all__ = ["ALIASES", "Names", "planets", "serving_names", "simbad", "variables"]

_HTML = b"<html><body>The service is down for maintenance.</body></html>"

#: Other names of stars and planets, as the archive's service of aliases knows them.
ALIASES = {"hat-p-32b": "HAT-P-32 b", "hat-p-32 b": "HAT-P-32 b"}


def simbad() -> dict[str, tuple[str, float, float, str, str]]:
    """Rows of SIMBAD by identifier."""
    star = ("HAT-P-32", 31.04275, 46.68785, "*", "2020yCat.1350....0G")
    lyra = ("V* RR Lyr", 291.36630, 42.78436, "RR*", "2020yCat.1350....0G")
    barnard = ("NAME Barnard's star", 269.45208, 4.69339, "BY*", "2020yCat.1350....0G")
    return {"HAT-P-32": star, "RR Lyr": lyra, "V* RR Lyr": lyra, "Barnard's star": barnard}


def variables() -> Table:
    """Rows of B/vsx/vsx."""
    rows = [
        (1, "HAT-P-32", 0, 31.04271, 46.68789, "EP", 11.29, "V", "(", 0.025, "V", 2455867.4, "", "", 2.1500082, ""),
        (2, "RR Lyr", 0, 291.36629, 42.78433, "RRAB/BL", 7.06, "V", "", 8.12, "V", 2442923.4193, "", "", 0.56685, ":"),
        (3, "NSV 99", 1, 100.0, 10.0, "VAR", 9.0, "V", "", 9.5, "V", np.nan, "", "", np.nan, ""),
        (4, "Slow One", 0, 101.0, 10.0, "M", 9.0, "V", "", 12.5, "V", np.nan, "", ">", 500.0, ""),
        (5, "Quiet One", 2, 102.0, 10.0, "CST", 9.0, "V", "", 9.1, "V", 2450000.5, "", "", 3.0, ""),
    ]
    names = ["OID", "Name", "V", "RAJ2000", "DEJ2000", "Type", "max", "n_max", "f_min", "min", "n_min"]
    return Table(rows=rows, names=[*names, "Epoch", "u_Epoch", "l_Period", "Period", "u_Period"])


def planets() -> Table:
    """Rows of ps: HAT-P-32 b by two references, and two planets of one star."""

    def reference(authors: str, bibcode: str) -> str:
        return f"<a refstr=X href=https://ui.adsabs.harvard.edu/abs/{bibcode}/abstract target=ref>{authors}</a>"

    hartman, wang = reference("Hartman et al. 2011", "2011ApJ...742...59H"), reference("Wang et al. 2019", "2019AJ....157...82W")
    two = reference("Bakos et al. 2009", "2009A%26A...707..446B")
    rows = [
        ("HAT-P-32 b", "HAT-P-32", 31.0427, 46.6879, 1, "2019-02", wang, "BJD-TDB", 2.15000820, 2455867.402743, np.nan, np.nan),
        ("HAT-P-32 b", "HAT-P-32", 31.0427, 46.6879, 0, "2011-12", hartman, "BJD-UTC", 2.15000825, 2454420.44637, 3.1176, 2.27),
        ("HAT-P-32 b", "HAT-P-32", 31.0427, 46.6879, 0, "2024-01", hartman, "BJD-TDB", 2.15, np.nan, 3.2, 2.3),
        ("HAT-P-13 b", "HAT-P-13", 129.8825, 47.3521, 1, "2009-12", two, "HJD", 2.91626, 2454779.92979, 3.2424, 0.7),
        ("HAT-P-13 c", "HAT-P-13", 129.8825, 47.3521, 1, "2009-12", two, "", 428.5, np.nan, np.nan, np.nan),
    ]
    names = ["pl_name", "hostname", "ra", "dec", "default_flag", "pl_pubdate", "pl_refname", "pl_tsystemref"]
    return Table(rows=rows, names=[*names, "pl_orbper", "pl_tranmid", "pl_trandur", "pl_trandep"])


@dataclass
class Names:
    """What the services have, what they were asked, and what goes wrong with each.

    `faults` by service ('simbad', 'vizier', 'archive'): 'http' (503), 'hang' (no answer), 'drip' (one that never ends), 'html' (a page
    in place of a table), 'half' (XML that ends too early), 'other' (a table of something else).
    """

    faults: dict[str, str] = field(default_factory=dict)
    simbad: dict[str, tuple[str, float, float, str, str]] = field(default_factory=simbad)
    variables: Table = field(default_factory=variables)
    planets: Table = field(default_factory=planets)
    asked: list[tuple[str, str]] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    release: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def from_simbad(self, query: str) -> bytes:
        name = re.search(r"\"id\" = '((?:[^']|'')*)'", query)[1].replace("''", "'")  # type: ignore[index]
        rows = [self.simbad[name]] if name in self.simbad else []
        columns = {"main_id": str, "ra": float, "dec": float, "otype": str, "coo_bibcode": str}
        return votable(Table(rows=rows or None, names=list(columns), dtype=list(columns.values())))

    def from_vizier(self, body: str) -> bytes:
        asked = dict(line.split("=", 1) for line in body.splitlines() if "=" in line)
        assert asked["-source"] == "B/vsx/vsx", asked
        table = self.variables
        if "-c.rs" in asked:
            place = SkyCoord(*re.fullmatch(r"([\d.]+)([-+][\d.]+)", asked["-c"]).groups(), unit="deg", frame="fk5")  # type: ignore[union-attr]
            apart = SkyCoord(table["RAJ2000"], table["DEJ2000"], unit="deg", frame="fk5").separation(place).arcsec
            rows = table[apart <= float(asked["-c.rs"])]
        else:
            rows = table[table["Name"] == asked["Name"].removeprefix("=")]
        return votable(rows[asked["-out"].split(",")])

    def from_planets(self, query: str) -> bytes:
        names = [name.replace("''", "'") for name in re.findall(r"name='((?:[^']|'')*)'", query)]
        columns = re.search(r"select (.*?) from ps ", query)[1].split(",")  # type: ignore[index]
        rows = self.planets[(self.planets["pl_name"] == names[0]) | (self.planets["hostname"] == names[1])]
        return votable(rows[columns])

    def aliases(self, name: str) -> bytes:
        found = ALIASES.get(name.lower())
        if found is None:
            return json.dumps({"manifest": {"requested_name": name, "lookup_status": "System Not Found"}}).encode()
        star = found.rpartition(" ")[0]
        planet = {found: {"alias_set": {"aliases": [found, found.replace(" ", "")]}}}
        manifest = {"resolved_name": found, "system_name": star, "system_snapshot": {"number_of_stars": 1}}
        return json.dumps({"manifest": manifest, "system": {"objects": {"planet_set": {"planets": planet}}}}).encode()


class _Handler(BaseHTTPRequestHandler):
    """Speaks for `names`, which a subclass sets."""

    names: Names
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path.endswith("/nph-aliaslookup.py"):
            name = urllib.parse.parse_qs(query)["objname"][0]
            self.answer("archive", f"alias {name}", lambda: self.names.aliases(name))
        else:
            self.reply(404, b"no such page")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        form = dict(urllib.parse.parse_qsl(body))
        if self.path == "/simbad/sim-tap/sync":
            self.answer("simbad", form["QUERY"], lambda: self.names.from_simbad(form["QUERY"]))
        elif self.path in ("/TAP/sync", "/TAP//sync"):  # astroquery's address of the archive ends in a slash
            self.answer("archive", form["QUERY"], lambda: self.names.from_planets(form["QUERY"]))
        elif self.path == "/viz-bin/votable":
            self.answer("vizier", body, lambda: self.names.from_vizier(body))
        else:
            self.reply(404, b"no such page")

    def answer(self, service: str, question: str, made: Any) -> None:
        self.names.asked.append((service, question))
        self.names.agents.add(self.headers["User-Agent"])
        fault = self.names.faults.get(service, "")
        if fault == "http":
            self.reply(503, b"try later")
        elif fault == "hang":
            self.names.release.wait(30)
        elif fault == "drip":
            self.drip()
        elif fault == "other":
            self.reply(200, votable(Table({"a": MaskedColumn([1.0, 2.0])})))
        elif fault == "html":
            self.reply(200, _HTML)
        else:
            content = made()
            self.reply(200, content[: len(content) // 2] if fault == "half" else content)

    def drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        while not self.names.release.wait(0.05):
            self.wfile.write(b" ")
            self.wfile.flush()

    def reply(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving_names(**options: Any) -> Iterator[Names]:
    """The three services on this machine for as long as the block lasts."""
    names = Names(**options)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"names": names}))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients may hang up
    names.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield names
    finally:
        names.release.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
