"""Being told to end: Ctrl-C, or SIGTERM of a service manager or a queue that is full.

The signal raises `KeyboardInterrupt` where the program is at that moment; where that is a function that C code called (a compiler's, a
garbage collector's), Python drops it. So it is also remembered, and raised again at the next place that asks (`heed`).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from db.errors import Terminated

__all__ = ["heed", "told_to_end"]

_told: list[KeyboardInterrupt] = []


def heed() -> None:
    """End here, if the program was told to.

    Raises
    ------
    KeyboardInterrupt
        It was told to, and went on.
    """
    if _told:
        raise _told[0]


@contextmanager
def told_to_end() -> Iterator[None]:
    """Have both signals end what is done within."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _end) for number in (signal.SIGINT, signal.SIGTERM) if _is_heard(number)}
    try:
        yield
    finally:
        _told.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_heard(number: int) -> bool:
    """A shell has what it starts in the background ignore Ctrl-C."""
    return signal.getsignal(number) is not signal.SIG_IGN


def _end(number: int, _frame: object) -> None:
    end = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
    _told.append(end)
    raise end
