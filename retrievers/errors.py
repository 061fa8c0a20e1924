"""The one error that a user can fix."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What the user gave cannot be used.

    The message says what was got, what is allowed and what to do. The command line prints it without a traceback and
    exits with 2.
    """


def unknown(kind: str, got: str, allowed: Iterable[str], hint: str = "") -> InputError:
    """Build the error for a name that is not there: did you mean, then all the names there are.

    `kind` is the noun ("retriever"), `hint` a closing sentence.
    """
    names = sorted(allowed)
    folded = {name.casefold(): name for name in names}
    near = [folded[n] for n in difflib.get_close_matches(got.casefold(), folded, n=3, cutoff=0.6)]
    parts = [f"unknown {kind} {got!r}."]
    if near:
        parts.append(f"Did you mean {' or '.join(near)}?")
    parts.append(f"There is: {', '.join(names)}." if names else f"There is no {kind} at all.")
    if hint:
        parts.append(hint)
    return InputError(" ".join(parts))
