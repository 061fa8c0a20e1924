"""How numbers of a test are printed."""


def p_value(p: float | None) -> str:
    """Four decimals, and never a plain nought; empty where there is none."""
    if p is None:
        return ""
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def p_two_digits(p: float | None) -> str:
    """Two digits, and never a plain nought: what float64 cannot hold is below 1e-300. Empty where there is none."""
    if p is None:
        return ""
    return f"{p:.2g}" if p else "<1e-300"
