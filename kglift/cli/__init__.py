"""The command line: thin; it parses, calls the library, and turns errors into one clear line."""

from kglift.cli.root import main

__all__ = ["main"]
