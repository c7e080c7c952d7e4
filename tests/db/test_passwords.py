"""Passwords are in nothing that is stored or shown."""

from __future__ import annotations

import shlex

import pytest

from db.engine import parse_url
from db.errors import ConfigurationError
from db.passwords import command_line, masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://astro:secret@host/night", "postgresql://astro:***@host/night"),
        ("postgresql+psycopg2://astro:p%40ss@[::1]:5432/night", "postgresql+psycopg2://astro:***@[::1]:5432/night"),
        ("postgresql://astro:p@ss@host/night", "postgresql://astro:***@host/night"),
        ("postgresql://astro:p:/s#s@host/night", "postgresql://astro:***@host/night"),
        ("postgresql://:secret@host/night", "postgresql://:***@host/night"),
        ("--archive=postgresql://astro:secret@host/night", "--archive=postgresql://astro:***@host/night"),
        ("postgresql://astro@host/night?password=secret&sslmode=require", "postgresql://astro@host/night?password=***&sslmode=require"),
        ("postgresql://astro:secret@host/night: no such role; ask me@here", "postgresql://astro:***@host/night: no such role; ask me@here"),
    ],
)
def test_a_password_is_hidden(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    "text",
    ["sqlite:////data/night.db", "postgresql://host:5432/night", "postgresql://me@host/night", "10:30 @ the site"],
)
def test_what_has_none_is_shown_as_it_is(text: str) -> None:
    assert masked(text) == text


def test_a_command_is_kept_as_a_shell_takes_it() -> None:
    words = ["starledger", "reduce", "my nights", "--archive", "postgresql://astro:a 'b' c@host/night"]
    kept = command_line(words)
    assert shlex.split(kept) == [*words[:-1], "postgresql://astro:***@host/night"]


@pytest.mark.parametrize(
    "url", ["mysql://astro:secret@host/night", "postgresql://astro:secret@host:port/night", "postgresql+other://astro:secret@host/night"]
)
def test_errors_about_urls_do_not_say_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_url(url)
    assert "secret" not in str(raised.value) and "astro" in str(raised.value)
