"""How long a database may work on a person's statement, and how it is stopped: at the end of that time, or when the program is to end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from db.errors import ConfigurationError

__all__ = ["TIMEOUT", "Clock", "timed_patterns", "too_long", "watched", "with_cancel"]

#: Seconds that the database may work on a statement, where nobody says otherwise.
TIMEOUT = 30.0
#: Seconds that a server gets, after the time that it knows of, to say so itself.
_GRACE = 2.0
#: How often the server is asked again to stop, in seconds: a request that comes between two statements stops neither.
_AGAIN = 1.0
#: The longest time that PostgreSQL takes, in milliseconds.
_LONGEST = 2**31 - 1
#: Steps of SQLite's machine between two looks at the clock: some tenths of a millisecond.
_STEPS = 10_000

_Answer = TypeVar("_Answer")


class Clock:
    """The time that is left to the database: it runs while the database works, not while its rows are looked at.

    Parameters
    ----------
    seconds : float
        The limit; 0 for none.
    """

    end: float
    """When it is over, of `time.monotonic`, while the database works."""
    raised: BaseException | None
    """By code that SQLite called: its driver forgets it."""

    def __init__(self, seconds: float) -> None:
        if not seconds >= 0:
            raise ConfigurationError(f"no time limit: {seconds} s", where="sql", hint="give seconds, or 0 for none", code="sql.timeout")
        self.limit = seconds if 0 < seconds < _LONGEST / 1000 else math.inf
        self.left = self.limit
        self.end = math.inf
        self.raised = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take off the time that passes meanwhile."""
        begin = time.monotonic()
        self.end = begin + self.left
        try:
            yield
        finally:
            self.left -= time.monotonic() - begin

    @property
    def milliseconds(self) -> int:
        """What is left as PostgreSQL takes it, for which 0 is no limit."""
        return 0 if math.isinf(self.left) else max(int(1000 * self.left), 1)


def too_long(clock: Clock) -> ConfigurationError:
    """The error for a statement that was stopped by the clock."""
    return ConfigurationError(
        f"no answer within {clock.limit:g} s",
        where="sql",
        hint="ask for less, or for more time: --timeout SECONDS, timeout= in Python; 0 is no limit",
        code="sql.timeout",
    )


@contextmanager
def with_cancel(driver: Any, clock: Clock) -> Iterator[Callable[[Callable[[], _Answer]], _Answer]]:
    """For psycopg2: call something that waits for the server, which is stopped when the time is over or the program is to end.

    libpq does not come back to Python while it waits: another thread waits for it.
    """
    with ThreadPoolExecutor(1) as pool:

        def call(work: Callable[[], _Answer]) -> _Answer:
            with clock.running():
                answer = pool.submit(work)
                try:
                    return answer.result(None if math.isinf(clock.left) else max(clock.left, 0.0) + _GRACE)
                except TimeoutError:
                    _stop(driver, answer)
                    raise too_long(clock) from None
                except KeyboardInterrupt:
                    _stop(driver, answer)
                    raise

        yield call


def _stop(driver: Any, answer: Future[Any]) -> None:
    import psycopg2  # SQLite needs none of it

    while not answer.done():
        with suppress(psycopg2.Error):  # its connection is gone, and the statement with it
            driver.cancel()
        wait([answer], _AGAIN)


@contextmanager
def watched(driver: Any, clock: Clock) -> Iterator[None]:
    """For sqlite3: what it works on meanwhile is stopped when the time is over or the program is to end.

    An interrupt is raised in Python code, and while SQLite works there is none but what looks at the clock: the driver would take the
    interrupt for a mistake in that and forget it.
    """

    def looks() -> Iterator[bool]:
        # A generator, since what is raised when it goes on is raised within: of a function it would be before its first line.
        while True:
            try:
                yield clock.raised is not None or time.monotonic() > clock.end
            except KeyboardInterrupt as interrupt:
                clock.raised = interrupt

    driver.set_progress_handler(looks().__next__, _STEPS)
    try:
        with clock.running():
            yield
    finally:
        driver.set_progress_handler(None, 0)
        if isinstance(clock.raised, KeyboardInterrupt):
            raise clock.raised


@contextmanager
def timed_patterns(driver: Any, clock: Clock) -> Iterator[None]:
    """For sqlite3: REGEXP is no code of SQLite's, which looks at no clock while it waits; a pattern that tries all ways has no end."""
    import regex  # PostgreSQL needs none of it, nor does who asks for no statement

    def matches(pattern: object, value: object) -> bool | None:
        if pattern is None or value is None:
            return None
        left = clock.end - time.monotonic()
        try:
            return regex.search(str(pattern), str(value), timeout=None if math.isinf(left) else max(left, 0.001)) is not None
        except (KeyboardInterrupt, TimeoutError, regex.error) as error:
            clock.raised = error
            raise

    driver.create_function("regexp", 2, matches, deterministic=True)
    try:
        yield
    finally:
        clock.end = math.inf  # the connection goes back to a pool
