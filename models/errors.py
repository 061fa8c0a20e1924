"""Errors in a checkpoint that the user can fix, and errors that stop a training."""


def first_line(error: BaseException) -> str:
    """The gist of another library's message; its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says what was found, what is needed and what to do."""


class NoLexicalHalfError(CheckpointError):
    """A checkpoint has no masked-LM head, or one of whose logits no lexical half can be made."""


class TrainingStopped(Exception):
    """A training was asked to stop, and did when its work was kept: at `step`, or with the stage `finished`."""

    def __init__(self, step: int | None = None, finished: str = "") -> None:
        super().__init__(f"{finished} is finished" if finished else f"saved at step {step}")
        self.step = step


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step, on which batch, and what was kept."""
