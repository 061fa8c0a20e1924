"""The error for a collection that is known and is not here."""

from harness.retrievers.errors import InputError


class MissingCollection(InputError):
    """A collection that has to be fetched or brought first; `how` says by what, in a few words."""

    def __init__(self, message: str, how: str) -> None:
        super().__init__(message)
        self.how = how
