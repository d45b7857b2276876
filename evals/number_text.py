"""Numbers in words: bytes, durations, shares and lengths."""


def byte_text(count: int) -> str:
    """Return bytes as people read them: 512 B, 33.8 KiB, 2 MiB."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def duration_text(seconds: float) -> str:
    """Return seconds as people read them: 45 s, 12 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def percent_text(value: float) -> str:
    """Return a share as a percentage; only an exact 1 becomes 100%."""
    text = f"{100 * value:.1f}"
    if text == "100.0" and value < 1:
        text = "99.9"
    return f"{text}%"


def length_text(length: int) -> str:
    """Return a number of tokens as people read it: 256, 1k, 16k."""
    return f"{length // 1024}k" if length % 1024 == 0 else str(length)
