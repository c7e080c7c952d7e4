"""From nights of raw frames to light curves, kept in a relational database.

>>> import starledger
>>> archive = starledger.open("sqlite:///starledger.db")  # doctest: +SKIP
>>> archive.light_curve("HAT-P-32 b")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from db.errors import StarledgerError
    from starledger.archive import Archive, create, open
    from starledger.configuration import configuration_text
    from starledger.demo.run import run_demo
    from starledger.grants import grant
    from starledger.raw_files import convert, definitions, header
    from starledger.recovery import recover
    from starledger.schema import revision, upgrade
    from starledger.solving import solve

__all__ = [
    "Archive",
    "StarledgerError",
    "__version__",
    "configuration_text",
    "convert",
    "create",
    "definitions",
    "grant",
    "header",
    "open",
    "recover",
    "revision",
    "run_demo",
    "solve",
    "upgrade",
]

__version__ = "0.1.0"

_LAZY = {
    "Archive": "starledger.archive",
    "StarledgerError": "db.errors",
    "configuration_text": "starledger.configuration",
    "convert": "starledger.raw_files",
    "create": "starledger.archive",
    "definitions": "starledger.raw_files",
    "grant": "starledger.grants",
    "header": "starledger.raw_files",
    "open": "starledger.archive",
    "recover": "starledger.recovery",
    "revision": "starledger.schema",
    "run_demo": "starledger.demo.run",
    "solve": "starledger.solving",
    "upgrade": "starledger.schema",
}


def _refuse_strangers() -> None:
    # `db` is a common name: a user's db.py in the working folder would otherwise surface as a baffling error much later.
    root = Path(__file__).resolve().parent.parent
    for name in ("db", "reduction", "queries"):
        spec = importlib.util.find_spec(name)
        places = [] if spec is None else [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
        found = [str(Path(place).resolve()) for place in places if place]
        if found and found[0] != str(root / name / "__init__.py"):
            raise ImportError(f"{found[0]} hides starledger's own package '{name}': rename it, or run Python from another folder")
        if not found:
            raise ImportError(f"starledger's own package '{name}' is missing from {root}: install starledger again")


_refuse_strangers()


def __getattr__(name: str) -> Any:
    # The heavy imports wait until they are asked for: `starledger --help` stays quick.
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'starledger' has no attribute '{name}'")


def __dir__() -> list[str]:
    # So that completion knows the names that are not imported yet.
    return sorted({*globals(), *__all__})
