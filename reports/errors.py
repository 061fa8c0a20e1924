"""Errors in given records that the user can fix."""


class RecordError(ValueError):
    """A record cannot be read; the message says which file, and why."""


class NewerRecordError(RecordError):
    """A record of a newer schema: sound, but not for this version; it is never overwritten unasked."""
