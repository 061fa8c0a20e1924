"""Hashes that name what something was made from."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any


def joint(hashes: Iterable[str]) -> str:
    """The hash of a composite, from those of its parts in their order."""
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def digest(value: Any) -> str:
    """A short hash of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
