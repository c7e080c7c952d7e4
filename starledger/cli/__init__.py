"""The command line: a module for each group of commands."""

from starledger.cli.app import main

__all__ = ["main"]
