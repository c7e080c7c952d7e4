"""Small archives for the tests of this folder."""

from archive_fixtures import fresh, pair, small

__all__ = ["fresh", "pair", "small"]
