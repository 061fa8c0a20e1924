"""How numbers of a test are printed."""


def p_value(p: float) -> str:
    """Four decimals, and never a plain nought."""
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def p_two_digits(p: float) -> str:
    """Two digits, and never a plain nought: a p that float64 cannot hold is below 1e-300."""
    return f"{p:.2g}" if p else "<1e-300"
