"""What a user can mend in a checkpoint."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says what was found, what is needed and what to do."""
