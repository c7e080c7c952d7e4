"""A signal ends the program, also one that Python dropped."""

from __future__ import annotations

import os
import signal

import pytest

from db.errors import Terminated, exit_code_of
from db.interrupts import heed, told_to_end


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize(("number", "kind", "code"), [(signal.SIGINT, KeyboardInterrupt, 130), (signal.SIGTERM, Terminated, 143)])
def test_a_signal_that_was_dropped_is_heeded_later(number: int, kind: type[KeyboardInterrupt], code: int) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts the tests may ignore it
    try:
        with pytest.raises(kind) as end, told_to_end():
            heed()
            try:
                signal.raise_signal(number)
            except KeyboardInterrupt:
                dropped = True
            assert dropped
            heed()
        assert exit_code_of(end.value) == code
        heed()  # the next program in this process was told nothing
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_who_ignores_an_interrupt_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with told_to_end():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
