"""Seeds as pure functions of what they are for."""

import numpy as np


def mixed(*numbers: int) -> int:
    """63 well-mixed bits of some numbers: neighbouring steps share nothing."""
    return int(np.random.SeedSequence(list(numbers)).generate_state(1, np.uint64)[0] >> np.uint64(1))
