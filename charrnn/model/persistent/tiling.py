"""How a window is parted among the programs of one launch, and how many layers it takes."""

from __future__ import annotations

from dataclasses import dataclass

UNITS = 16
"""Fewest units of a program: what a tensor core takes at once."""
ROWS = (64, 128)
"""Rows of a program: a warp group of Hopper's multiplies 64."""
DEPTHS = (256, 128)
"""Depths of one product: the larger asks for more at a time, the smaller leaves more room for weights."""
SLACK_BYTES = 8 * 1024
"""Shared memory that a compiler may take beyond operands: for gates between layouts, and for barriers."""


@dataclass(frozen=True)
class Tiling:
    """Which units and rows a program owns, and how it multiplies.

    Args:
        units: Units of a program, a power of 2.
        rows: Rows of a tile, a power of 2.
        depth: Summands of one product, a power of 2.
        groups: Sets of programs that share no row, and so wait for nobody in another set.
        shared_bytes: Shared memory of a program.
        layers: Layers of a launch, each with programs of its own.
        steps: Timesteps of a launch, which then takes one layer; None: the whole window. With 1, nobody ever
            waits.
    """

    units: int
    rows: int
    depth: int
    groups: int
    shared_bytes: int
    layers: int = 1
    steps: int | None = None

    @property
    def warps(self) -> int:
        """Warps of a program: one for 16 rows, and never less than a group of 4."""
        return max(4, self.rows // 16)

    @property
    def products(self) -> int:
        """Products of a timestep: with what its own layer made, and with what its neighbour did."""
        return 1 if self.layers == 1 else 2

    def slices(self, hidden_size: int) -> int:
        """Return the number of programs that share a tile's rows."""
        return -(-hidden_size // self.units)

    def tiles(self, batch_size: int) -> int:
        """Return the number of tiles of rows."""
        return -(-batch_size // self.rows)

    def constants(
        self, hidden_size: int, num_gates: int, item_bytes: int, *, backward: bool
    ) -> dict[str, int | bool]:
        """Return what a kernel is compiled for.

        Args:
            hidden_size: H.
            num_gates: 4 for an LSTM, 3 for a GRU.
            item_bytes: Size of a product's operand.
            backward: Which of the two kernels.
        """
        summands, columns = (num_gates * hidden_size, 1) if backward else (hidden_size, 4)
        chunks = -(-summands // self.depth)
        chunk_bytes = self.depth * columns * self.units * item_bytes
        resident = self._resident(self.products * chunks, chunk_bytes, item_bytes)
        sizes = {"LAYERS": self.layers, "ROWS": self.rows, "UNITS": self.units, "DEPTH": self.depth}
        return {"H": hidden_size, "GRU": num_gates == 3, **sizes, "CHUNKS": chunks, "RESIDENT": resident}

    def _resident(self, chunks: int, chunk_bytes: int, item_bytes: int) -> int:
        """Return how many chunks of weights stay; where some do not, there is one more on its way."""
        room = self.shared_bytes - SLACK_BYTES - self.rows * self.depth * item_bytes
        return chunks if chunks * chunk_bytes <= room else max(0, room // chunk_bytes - 1)


def choose(
    hidden_size: int, batch_size: int, programs: int, shared_bytes: int, item_bytes: int, layers: int = 1
) -> Tiling:
    """Return a tiling for as many programs as run at the same time.

    A launch takes the layers that fit with the fewest units a program. Programs share units first, for then
    each has fewer weights to keep, and rows where any are left over.

    Args:
        hidden_size: H, any.
        batch_size: B, any.
        programs: Streaming multiprocessors of the device.
        shared_bytes: Shared memory of one of them.
        item_bytes: Size of a product's operand.
        layers: Layers that there are; those that the tiling leaves out need launches of their own.
    """
    units = UNITS
    layers = max(1, min(layers, programs // -(-hidden_size // units)))
    programs //= layers
    while -(-hidden_size // units) > programs:
        units *= 2
    sets = programs // -(-hidden_size // units)
    rows = ROWS[0] if batch_size <= ROWS[0] * sets else ROWS[1]
    groups = min(sets, -(-batch_size // rows))
    most = max(16, 1 << (hidden_size - 1).bit_length())
    for depth in DEPTHS:
        tiling = Tiling(units, rows, min(depth, most), groups, shared_bytes, layers)
        found = tiling.constants(hidden_size, 4, item_bytes, backward=False)
        if found["RESIDENT"] == tiling.products * found["CHUNKS"]:
            break
    return tiling
