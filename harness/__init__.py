"""The way in and the conductor: command line, data sets, scoring, runs."""

__version__ = "0.1.0"
