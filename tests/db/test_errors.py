"""An error is one line, whatever the names in it."""

from __future__ import annotations

import pickle

import pytest

from db.errors import FrameUnusable, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;mine\x07frame.fits", r"\x1b[2J\x1b]0;mine\x07frame.fits"),
        ("first\nsecond\r.fits", r"first\nsecond\r.fits"),
        ("\x9b31mframe.fits\x00", r"\x9b31mframe.fits\x00"),
        ("frame\u202estif.fits", r"frame\u202estif.fits"),
        ("frame\udcff.fits", r"frame\udcff.fits"),
        ("\N{GREEK SMALL LETTER ALPHA} Cen, 10\N{DEGREE SIGN}, a\tb", "\N{GREEK SMALL LETTER ALPHA} Cen, 10\N{DEGREE SIGN}, " + r"a\tb"),
    ],
)
def test_no_name_moves_the_cursor(text: str, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode()
    error = FrameUnusable("is cut off", where=text, hint=f"copy {text} again")
    assert str(error) == f"{shown}: is cut off; copy {shown} again"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
