"""The version, in a module of its own: to read it, nothing else is imported."""

__version__ = "0.1.0"
