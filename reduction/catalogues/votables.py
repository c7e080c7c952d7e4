"""VOTables from strangers: what they hold is taken, and what they point to is never fetched."""

from __future__ import annotations

from collections.abc import Mapping
from xml.parsers import expat

__all__ = ["refuse_references"]


def refuse_references(contents: bytes) -> None:
    """Refuse a VOTable whose data lie elsewhere: readers would fetch them, from any address and from any file of this machine.

    Parameters
    ----------
    contents : bytes
        The document.

    Raises
    ------
    ValueError
        An element STREAM has an attribute href.
    xml.parsers.expat.ExpatError
        It is no XML, or is cut short.
    """

    def begin(name: str, attributes: Mapping[str, str]) -> None:
        if name.rpartition(":")[2].upper() == "STREAM":
            for key, value in attributes.items():
                if key.rpartition(":")[2].lower() == "href":
                    raise ValueError(f"its data lie at {value[:80]}, which is not fetched")

    parser = expat.ParserCreate()
    parser.StartElementHandler = begin
    parser.Parse(contents, True)
