"""What training saw of a collection: its kinds, and the words for them."""

from dataclasses import dataclass

IN_DOMAIN, SEEN, ZERO_SHOT = "in domain", "seen in part", "zero-shot"
KINDS = (IN_DOMAIN, SEEN, ZERO_SHOT)


@dataclass(frozen=True)
class Exposure:
    """What training saw of a collection; `kind` is one of `KINDS`, or "" where nothing says."""

    kind: str = ""
    note: str = ""
