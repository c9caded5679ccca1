"""Range coding: intervals of whole numbers become bytes, and come back.

Source: Martin 1979, with the carry of Schindler 1998; integers of 64 bits.
"""

from __future__ import annotations

from charrnn.errors import TextError

TOP = 1 << 64
BOTTOM = 1 << 56


class RangeEncoder:
    """Writes one stream of symbols, each given by its interval of a total."""

    def __init__(self) -> None:
        self._low = 0
        self._range = TOP
        self._out = bytearray()

    def encode(self, begin: int, size: int, total: int) -> None:
        """Code the symbol that has the interval [begin, begin + size) of [0, total); total ≤ 2^52."""
        unit = self._range // total
        self._low += unit * begin
        self._range = unit * size
        while self._range <= BOTTOM:
            self._shift()

    def finish(self) -> bytes:
        """Return the stream, ended by the fewest bytes that name the last interval; zeros may follow."""
        for kept in range(9):
            unit = 1 << (64 - 8 * kept)
            value = -(-self._low // unit) * unit
            if value < self._low + self._range:
                break
        self._low = value
        for _ in range(kept):
            self._shift()
        self._carry()
        return bytes(self._out).rstrip(b"\0")

    def _shift(self) -> None:
        self._carry()
        self._out.append(self._low >> 56)
        self._low = (self._low << 8) % TOP
        self._range <<= 8

    def _carry(self) -> None:
        if self._low >= TOP:
            self._low -= TOP
            place = len(self._out) - 1
            while self._out[place] == 255:
                self._out[place] = 0
                place -= 1
            self._out[place] += 1


class RangeDecoder:
    """Reads what ``RangeEncoder`` wrote; behind its end it reads zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 8
        self._code = int.from_bytes(data[:8].ljust(8, b"\0"), "big")
        self._range = TOP

    def target(self, total: int) -> int:
        """Return a number in the interval of the next symbol, given the total.

        Raises:
            TextError: No encoder has written this.
        """
        self._unit = self._range // total
        target = self._code // self._unit
        if target >= total:
            raise TextError("the compressed data is damaged")
        return target

    def consume(self, begin: int, size: int) -> None:
        """Go on behind the symbol whose interval holds the target."""
        self._code -= self._unit * begin
        self._range = self._unit * size
        while self._range <= BOTTOM:
            following = self._data[self._place] if self._place < len(self._data) else 0
            self._code = self._code << 8 | following
            self._range <<= 8
            self._place += 1

    def byte(self) -> int:
        """Read one of 256 equally probable values."""
        value = self.target(256)
        self.consume(value, 1)
        return value
