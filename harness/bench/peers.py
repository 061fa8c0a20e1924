"""Peers are other people's packages, some of them optional."""

import importlib
import importlib.util
from typing import Any

from harness.retrievers.errors import InputError


def there(module: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(module) is not None


def peer(module: str, package: str) -> Any:
    """Import a peer; raises InputError, with what to install, where it is missing."""
    if not there(module):
        raise InputError(
            f"this benchmark needs its peer {module}, which is not installed. Run `pip install {package}`."
        )
    return importlib.import_module(module)
