"""Tables from names to parts, imported when they are first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Generic, TypeVar

from charrnn.errors import ConfigError, suggest

T = TypeVar("T")


class Registry(Generic[T]):
    """A table of parts of one kind, written as ``"module:attribute"`` so that listing imports nothing.

    Args:
        kind: What the parts are, for error messages ("cell", "optimizer").
        parts: Name to ``"module:attribute"``.
    """

    def __init__(self, kind: str, parts: dict[str, str]) -> None:
        self.kind = kind
        self._parts = dict(parts)

    def __getitem__(self, name: str) -> T:
        """Import and return the part.

        Raises:
            ConfigError: No part has this name.
        """
        module, _, attribute = self._parts[self.check(name)].partition(":")
        return getattr(import_module(module), attribute)

    def check(self, name: str) -> str:
        """Return ``name`` if it is known, without importing the part; else raise ``ConfigError``."""
        if name not in self._parts:
            raise ConfigError(f"unknown {self.kind} `{name}`", suggest(name, self._parts))
        return name

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __contains__(self, name: object) -> bool:
        return name in self._parts
