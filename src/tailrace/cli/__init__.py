"""The command line: `tailrace serve`."""

from tailrace.cli.main import main

__all__ = ["main"]
