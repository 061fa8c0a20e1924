"""The command line: `root` puts it together, each other module is a command."""

from harness.cli.root import app, main

__all__ = ["app", "main"]
