"""How correlations and changes of bpc are written."""

from __future__ import annotations


def change(bits: float) -> str:
    """Return a change of bpc as ``+.41`` or ``−.02``."""
    return ("−" if bits < 0 else "+") + unsigned(abs(bits))


def signed(value: float) -> str:
    """Return a correlation as ``+.71`` or ``−.71``."""
    return ("−" if value < 0 else "+") + unsigned(abs(value))


def unsigned(value: float, digits: int = 2) -> str:
    """Return a number without the zero before its point: ``.71``, ``1.00``."""
    return f"{value:.{digits}f}".removeprefix("0")
