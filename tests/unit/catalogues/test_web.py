"""What services answer is taken with care: no more than a limit, in a time, from the host that was asked, with the data in the answer."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from astropy.table import Table
from tap_service import serving

from db.errors import AlgorithmFailed, ConfigurationError
from reduction.catalogues.services import SERVICES as CATALOGUES
from reduction.catalogues.tables import read_table
from reduction.catalogues.tap import Client
from reduction.catalogues.web import cautious
from starledger import nameservices
from starledger.nameservices import SERVICES, Question, ask

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def web(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """A server on this machine that answers as it is told; its address, and the paths that were asked for."""
    asked: list[str] = []
    release = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            asked.append(self.path)
            self.release = release
            answer(self)

        do_POST = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        release.set()
        server.shutdown()
        server.server_close()


def says(body: bytes, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def redirects(target: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.end_headers()

    return answer


def drips(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while not handler.release.wait(0.02):  # type: ignore[attr-defined]
        handler.wfile.write(b" ")
        handler.wfile.flush()


def session(url: str, *, seconds: float = 5.0, most: int = 10_000) -> requests.Session:
    made = requests.Session()
    cautious(made, url, seconds, most)
    return made


def pointing(href: str, prefix: str = "") -> bytes:
    """A VOTable whose data lie elsewhere."""
    name = f"{prefix}:" if prefix else ""
    space = f' xmlns{":" if prefix else ""}{prefix}="http://www.ivoa.net/xml/VOTable/v1.3"'
    return (
        f'<?xml version="1.0"?><{name}VOTABLE version="1.4"{space}><{name}RESOURCE type="results"><{name}TABLE>'
        f'<{name}FIELD name="ra" datatype="double"/><{name}FIELD name="dec" datatype="double"/><{name}DATA><{name}BINARY>'
        f'<{name}STREAM href="{href}"/></{name}BINARY></{name}DATA></{name}TABLE></{name}RESOURCE></{name}VOTABLE>'
    ).encode()


def test_an_answer_of_the_host_is_taken_whole() -> None:
    with web(says(b"fine", Content_Type="text/plain")) as (url, _), session(url) as asking:
        answer = asking.get(url)
        assert (answer.content, answer.status_code, answer.headers["Content-Type"]) == (b"fine", 200, "text/plain")
        assert asking.get(url, stream=True).raw.read() == b"fine"


def test_an_answer_that_is_too_long_is_given_up() -> None:
    refusal = pytest.raises(requests.RequestException, match="more than 10000 bytes")
    with web(says(b"x" * 20_000)) as (url, _), session(url) as asking, refusal:
        asking.get(url)


def test_a_compressed_answer_counts_as_what_it_holds() -> None:
    bomb = says(gzip.compress(bytes(5_000_000)), Content_Encoding="gzip")
    with web(bomb) as (url, _), session(url) as asking, pytest.raises(requests.RequestException, match="more than 10000 bytes"):
        asking.get(url)
    with web(says(gzip.compress(b"fine"), Content_Encoding="gzip")) as (url, _), session(url) as asking:
        assert asking.get(url).content == b"fine"


def test_an_answer_that_comes_drop_by_drop_is_given_up() -> None:
    with web(drips) as (url, _), session(url, seconds=0.3) as asking, pytest.raises(requests.Timeout, match=r"not there after 0\.3 s"):
        asking.get(url, timeout=5.0)


def test_another_host_is_not_asked() -> None:
    with web(says(b"secret")) as (other, asked), web(redirects(other)) as (url, _), session(url) as asking:
        with pytest.raises(requests.RequestException, match="another host"):
            asking.get(url)
        with pytest.raises(requests.RequestException):
            asking.get("file:///etc/hostname")
        assert asked == []


@pytest.mark.parametrize("prefix", ["", "vot"])
def test_a_votable_that_points_elsewhere_is_refused(tmp_path: Path, prefix: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(16))
    with web(says(bytes(16))) as (other, asked):
        for number, href in enumerate((f"{other}/data", f"file://{secret}", f"ftp://{other[7:]}/data")):
            path = tmp_path / f"{number}.vot"
            path.write_bytes(pointing(href, prefix))
            with pytest.raises(ConfigurationError, match="is not fetched") as caught:
                read_table(path)
            assert caught.value.code == "catalogue.format" and str(caught.value).isprintable()
            refusal = pytest.raises(requests.RequestException, match="is not fetched")
            with web(says(path.read_bytes())) as (url, _), session(url) as asking, refusal:
                asking.get(url)
        assert asked == []


def test_the_tap_client_is_careful() -> None:
    query = CATALOGUES["gaia"].query(0, 0, 12.0)
    with web(says(bytes(16))) as (other, asked), serving(Table()) as service:
        service.answer = lambda *_: pointing(f"{other}/data")  # type: ignore[method-assign]
        with pytest.raises(AlgorithmFailed, match="is not fetched"):
            Client(service.url, timeout=5.0, attempts=1, sleep=lambda _: None).ask(query)
        assert asked == []
    with web(redirects("http://127.0.0.2:1/")) as (url, _), pytest.raises(AlgorithmFailed, match="another host"):
        Client(url, timeout=5.0, attempts=1).ask(query)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.variable)
def test_services_of_names_are_asked_with_care(service: nameservices.Service, monkeypatch: pytest.MonkeyPatch) -> None:
    with web(says(bytes(16))) as (other, asked):
        for answer in (says(pointing(f"{other}/data"), Content_Type="text/xml"), redirects(other), says(b"x" * 2000)):
            monkeypatch.setattr(nameservices, "_MOST_ANSWERED", 1000)
            with web(answer) as (url, _):
                monkeypatch.setenv(service.variable, url)
                with pytest.raises(AlgorithmFailed):
                    ask(service, Question("HAT-P-32"), 5.0)
        assert asked == []
