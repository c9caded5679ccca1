"""The persistent recurrence in Triton: a window of an LSTM or GRU layer in one launch, forward and backward.

A program owns some units (``UNITS``) and some rows of the batch (``ROWS``). It loads its units' recurrent
weights before the first timestep and keeps them. In every timestep it waits until the programs of the same
rows have stored what they made of the one before, multiplies that by its weights, applies the gates, stores
its part and tells the others: one barrier a timestep. c of an LSTM, h of a GRU stay in fp32 registers; what
the others read, and the gates kept for the way back, have the dtype of the products' operands.

Gates stand in four *slots*, those with recurrent weights first: ``i f g o``; for a GRU ``q r z n``, where
``q = U_n h + b'_n`` is what r scales. Rows of the recurrent weights are in the order of slots, too.

These kernels have been run in Triton's interpreter and compiled, never run on a GPU: see docs/cuda.md.
"""

# no `from __future__ import annotations` here: the interpreter takes them as they stand
import triton
import triton.language as tl

# Only builtins of tl are used: its functions that are themselves compiled (tl.zeros, tl.sigmoid) would be
# out of the interpreter's reach where something else imported triton before.


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _tanh(x):
    return 2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0


@triton.jit
def _arrive(counter):
    """Tell the programs of the same rows that this one has stored its part."""
    tl.debug_barrier()  # every thread has stored before one of them releases
    tl.atomic_add(counter, 1, sem="release", scope="gpu")


@triton.jit
def _wait(counter, arrivals):
    """Wait until so many have arrived. Every program must be running, or this is for ever."""
    # compiled to an acquiring load by one thread, and a barrier that takes it to the others; without a use of
    # the result it would be compiled to nothing
    while tl.atomic_add(counter, 0, sem="acquire", scope="gpu") < arrivals:
        pass


@triton.jit
def _gate_weights(
    w, chunk, first, H: tl.constexpr, GATES: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr
):
    """Return weights into the gates of a program's units, (DEPTH, 4 UNITS); a unit's slots are neighbours."""
    k = chunk * DEPTH + tl.arange(0, DEPTH)
    column = tl.arange(0, 4 * UNITS)
    unit = first + column // 4
    slot = column % 4
    there = (k < H)[:, None] & ((unit < H) & (slot < GATES))[None, :]
    return tl.load(w + (slot * H + unit)[None, :] * H + k[:, None], there, 0.0)


@triton.jit
def _unit_weights(
    w, chunk, first, H: tl.constexpr, GATES: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr
):
    """Return the weights from a program's units into gates, (DEPTH, UNITS)."""
    k = chunk * DEPTH + tl.arange(0, DEPTH)
    unit = first + tl.arange(0, UNITS)
    there = (k < GATES * H)[:, None] & (unit < H)[None, :]
    return tl.load(w + k[:, None] * H + unit[None, :], there, 0.0)


@triton.jit
def _product(
    left,  # h (B, H), or gradients of slots (B, 4 H), of which those with recurrent weights are summed over
    rows,
    alive,  # rows that are not zero
    weights,  # those that stay, in chunks
    w,
    first,
    H: tl.constexpr,
    BACKWARD: tl.constexpr,
    GATES: tl.constexpr,
    UNITS: tl.constexpr,
    DEPTH: tl.constexpr,
    CHUNKS: tl.constexpr,
    RESIDENT: tl.constexpr,
    TYPE: tl.constexpr,
):
    """Return the product of some rows with a program's weights, in fp32."""
    columns: tl.constexpr = UNITS if BACKWARD else 4 * UNITS
    stride: tl.constexpr = 4 * H if BACKWARD else H
    width: tl.constexpr = GATES * H if BACKWARD else H
    total = tl.full((rows.shape[0], columns), 0.0, tl.float32)
    at = left + rows[:, None] * stride + tl.arange(0, DEPTH)[None, :]
    for chunk in tl.static_range(CHUNKS):
        there = alive[:, None]
        if (chunk + 1) * DEPTH > width:
            there = there & (chunk * DEPTH + tl.arange(0, DEPTH) < width)[None, :]
        # past the first-level cache, which is not told what other programs write
        part = tl.load(at + chunk * DEPTH, there, 0.0, cache_modifier=".cg")
        if chunk < RESIDENT:
            known = weights[chunk]
        elif BACKWARD:
            known = _unit_weights(w, chunk, first, H, GATES, UNITS, DEPTH)
        else:
            known = _gate_weights(w, chunk, first, H, GATES, UNITS, DEPTH)
        total = tl.dot(part.to(TYPE), known.to(TYPE), total, input_precision="ieee")
    return total


@triton.jit
def _parted(values, ROWS: tl.constexpr, UNITS: tl.constexpr):
    """Part (ROWS, 4 UNITS) into four (ROWS, UNITS), by slot."""
    even, odd = tl.split(tl.reshape(values, (ROWS, UNITS, 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit
def _load_slots(at, H: tl.constexpr, inside, COUNT: tl.constexpr):
    """Return four slots in fp32; of three the last twice."""
    first = tl.load(at, inside, 0.0).to(tl.float32)
    second = tl.load(at + H, inside, 0.0).to(tl.float32)
    third = tl.load(at + 2 * H, inside, 0.0).to(tl.float32)
    fourth = third
    if COUNT == 4:
        fourth = tl.load(at + 3 * H, inside, 0.0).to(tl.float32)
    return first, second, third, fourth


@triton.jit
def _store_slots(at, H: tl.constexpr, inside, first, second, third, fourth):
    tl.store(at, first, inside)
    tl.store(at + H, second, inside)
    tl.store(at + 2 * H, third, inside)
    tl.store(at + 3 * H, fourth, inside)


@triton.jit
def _lstm(i, f, g, o, c):
    """Return the gates, the new c and the new h."""
    i = _sigmoid(i)
    f = _sigmoid(f)
    g = _tanh(g)
    o = _sigmoid(o)
    c = f * c + i * g
    return i, f, g, o, c, o * _tanh(c)


@triton.jit
def _gru(x_r, x_z, x_n, q, u_r, u_z, h):
    """Return the slots, and the new h twice: as what is carried and as the output."""
    r = _sigmoid(x_r + u_r)
    z = _sigmoid(x_z + u_z)
    n = _tanh(x_n + r * q)
    h = n + z * (h - n)
    return q, r, z, n, h, h


@triton.jit
def _lstm_backward(d_h, d_c, i, f, g, o, c, before):
    """Return the gradients of the slots before their nonlinearities, and of the c before."""
    t = _tanh(c)
    d_c += d_h * o * (1.0 - t * t)
    d_i = d_c * g * i * (1.0 - i)
    d_f = d_c * before * f * (1.0 - f)
    d_g = d_c * i * (1.0 - g * g)
    d_o = d_h * t * o * (1.0 - o)
    return d_i, d_f, d_g, d_o, d_c * f


@triton.jit
def _gru_backward(d_h, q, r, z, n, before):
    """Return the gradients of the slots, and of the h before by way of z alone."""
    d_n = d_h * (1.0 - z) * (1.0 - n * n)
    d_z = d_h * (before - n) * z * (1.0 - z)
    d_r = d_n * q * r * (1.0 - r)
    return d_n * r, d_r, d_z, d_n, d_h * z


@triton.jit(do_not_specialize=["steps"])
def forward(
    x,  # gate inputs, (T, B, G H)
    w,  # recurrent weights in the order of slots, (G H, H)
    bias,  # a GRU's inner one, (H,) fp32, or None
    reset,  # (T, B) uint8, or None
    gates,  # slots, (T, B, 4 H), or None: not kept
    h,  # (T + 1, B, H), the first there, the others written
    state,  # c of an LSTM, h of a GRU, fp32: (T + 1, B, H), or (1, B, H) that is overwritten
    counter,  # (groups,) int32 zeros
    steps,
    B,
    tiles,  # of rows
    slices,  # programs that share rows
    state_step,  # from one state to the next
    H: tl.constexpr,
    GRU: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    DEPTH: tl.constexpr,  # of one product
    CHUNKS: tl.constexpr,  # products of a timestep
    RESIDENT: tl.constexpr,  # of them with weights that stay; the others read theirs in every timestep
    TYPE: tl.constexpr,  # dtype in which operands are multiplied
):
    """Run a window from the first timestep to the last."""
    GATES: tl.constexpr = 3 if GRU else 4
    first = tl.program_id(0) * UNITS
    counter += tl.program_id(1)
    u = first + tl.arange(0, UNITS)
    weights = ()
    for chunk in tl.static_range(RESIDENT):
        weights += (_gate_weights(w, chunk, first, H, GATES, UNITS, DEPTH),)
    arrivals = 0
    for tile in range(tl.program_id(1), tiles, tl.num_programs(1)):
        rows = tile * ROWS + tl.arange(0, ROWS)
        inside = (rows < B)[:, None] & (u < H)[None, :]
        own = rows[:, None] * H + u[None, :]
        slot = rows[:, None] * 4 * H + u[None, :]
        input_slot = rows[:, None] * GATES * H + u[None, :]
        carried = tl.load(state + own, inside, 0.0)
        x_t = x
        gates_t = gates
        h_t = h
        state_t = state
        reset_t = reset
        awaited = 0  # a tile begins with what is there
        for _ in range(steps):
            # what no other program makes is asked for before the wait
            x_0, x_1, x_2, x_3 = _load_slots(x_t + input_slot, H, inside, GATES)
            alive = rows < B
            if reset is not None:
                alive = alive & (tl.load(reset_t + rows, alive, 0) == 0)
                carried = tl.where(alive[:, None], carried, 0.0)
                reset_t += B
            _wait(counter, awaited)
            total = _product(
                h_t, rows, alive, weights, w, first, H, False, GATES, UNITS, DEPTH, CHUNKS, RESIDENT, TYPE
            )
            u_0, u_1, u_2, u_3 = _parted(total, ROWS, UNITS)
            if GRU:
                q = u_0 + tl.load(bias + u, u < H, 0.0)[None, :]
                s_0, s_1, s_2, s_3, carried, output = _gru(x_0, x_1, x_2, q, u_1, u_2, carried)
            else:
                s_0, s_1, s_2, s_3, carried, output = _lstm(
                    x_0 + u_0, x_1 + u_1, x_2 + u_2, x_3 + u_3, carried
                )
            h_t += B * H
            tl.store(h_t + own, output, inside)
            _arrive(counter)
            # what nobody waits for is stored after
            state_t += state_step
            tl.store(state_t + own, carried, inside)
            if gates is not None:
                _store_slots(gates_t + slot, H, inside, s_0, s_1, s_2, s_3)
                gates_t += B * 4 * H
            x_t += B * GATES * H
            arrivals += slices
            awaited = arrivals


@triton.jit(do_not_specialize=["steps"])
def backward(
    w,  # as for forward
    reset,  # (T + 1, B) uint8, from the last timestep on, or None
    gates,  # (T + 1, B, 4 H), from the last timestep on; gradients take the slots' places, after the last: 0
    d_output,  # (T, B, H), from the last timestep on
    state,  # (T + 1, B, H), from the last but one on
    carry,  # gradient of the state after the window, then of that before, (B, H) fp32
    counter,
    steps,
    B,
    tiles,
    slices,
    H: tl.constexpr,
    GRU: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    DEPTH: tl.constexpr,
    CHUNKS: tl.constexpr,
    RESIDENT: tl.constexpr,
    TYPE: tl.constexpr,
):
    """Run a window from the last timestep to the first."""
    GATES: tl.constexpr = 3 if GRU else 4
    first = tl.program_id(0) * UNITS
    counter += tl.program_id(1)
    u = first + tl.arange(0, UNITS)
    weights = ()
    for chunk in tl.static_range(RESIDENT):
        weights += (_unit_weights(w, chunk, first, H, GATES, UNITS, DEPTH),)
    arrivals = 0
    for tile in range(tl.program_id(1), tiles, tl.num_programs(1)):
        rows = tile * ROWS + tl.arange(0, ROWS)
        inside = (rows < B)[:, None] & (u < H)[None, :]
        own = rows[:, None] * H + u[None, :]
        slot = rows[:, None] * 4 * H + u[None, :]
        carried = tl.load(carry + own, inside, 0.0)
        d_output_t = d_output
        state_t = state
        gates_t = gates
        reset_t = reset
        awaited = 0  # a tile begins with what is there
        for _ in range(steps):
            s_0, s_1, s_2, s_3 = _load_slots(gates_t + slot, H, inside, 4)
            d_h = tl.load(d_output_t + own, inside, 0.0).to(tl.float32)
            alive = rows < B
            onward = alive
            if reset is not None:
                onward = alive & (tl.load(reset_t + B + rows, alive, 0) == 0)
                alive = alive & (tl.load(reset_t + rows, alive, 0) == 0)
                reset_t -= B
            before = tl.load(state_t + own, inside & alive[:, None], 0.0)
            after = before if GRU else tl.load(state_t + B * H + own, inside, 0.0)
            _wait(counter, awaited)
            d_t = gates_t + B * 4 * H  # gradients of the timestep after
            d_h += _product(
                d_t, rows, onward, weights, w, first, H, True, GATES, UNITS, DEPTH, CHUNKS, RESIDENT, TYPE
            )
            if GRU:
                d_0, d_1, d_2, d_3, carried = _gru_backward(d_h + carried, s_0, s_1, s_2, s_3, before)
            else:
                d_0, d_1, d_2, d_3, carried = _lstm_backward(d_h, carried, s_0, s_1, s_2, s_3, after, before)
            _store_slots(gates_t + slot, H, inside, d_0, d_1, d_2, d_3)
            _arrive(counter)
            carried = tl.where(alive[:, None], carried, 0.0)
            d_output_t -= B * H
            state_t -= B * H
            gates_t -= B * 4 * H
            arrivals += slices
            awaited = arrivals
        tl.store(carry + own, carried, inside)


INTERPRETED = not isinstance(forward, triton.JITFunction)
"""Whether Triton's interpreter runs the kernels, as TRITON_INTERPRET=1 asks."""
