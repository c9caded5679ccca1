"""The persistent recurrence in Triton: a window of LSTM or GRU layers in one launch, forward and backward.

A program owns some units (``UNITS``) of one layer and some rows of the batch (``ROWS``). It loads its units'
weights before the first timestep and keeps them. In every timestep it waits until the programs of the same
rows have stored what they made of the one before, multiplies that by its weights, applies the gates, stores
its part and tells the others: one barrier a timestep. c of an LSTM, h of a GRU stay in fp32 registers; what
the others read, and the gates kept for the way back, have the dtype of the products' operands.

Several layers of a launch make a *wavefront*: one that reads another waits for that one's same timestep, too,
and then multiplies what it made, so layers work at different timesteps at the same time. Only the lowest has
gate inputs from before the launch. Arrays are (layers, T + 1, B, ...), so who is ahead overwrites nothing.

It ends if all programs run at once, which a cooperative launch sees to. Number a program's work by (tile,
timestep, layer), on the way back from the last timestep and the top layer on. It waits only for work with a
lower number: of its own layer at the timestep before, of its neighbour at the same one. Programs do theirs in
that order. So no waits make a cycle: what has the lowest number of all that is undone waits for nobody.

Gates stand in four *slots*, those with recurrent weights first: ``i f g o``; for a GRU ``q r z n``, where
``q = U_n h + b'_n`` is what r scales. Rows of the recurrent weights are in the order of slots, too; a layer
below reaches the last ones, ``i f g o`` or ``r z n``.

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
    w,
    chunk,
    first,
    INPUT: tl.constexpr,  # from the layer below
    H: tl.constexpr,
    GATES: tl.constexpr,
    UNITS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Return weights into the gates of a program's units, (DEPTH, 4 UNITS); a unit's slots are neighbours."""
    k = chunk * DEPTH + tl.arange(0, DEPTH)
    column = tl.arange(0, 4 * UNITS)
    unit = first + column // 4
    slot = column % 4 - (4 - GATES if INPUT else 0)
    there = (k < H)[:, None] & ((unit < H) & (slot >= 0) & (slot < GATES))[None, :]
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
    weights,  # those that stay, in chunks: of the own layer's product, then of its neighbour's
    w,
    first,
    total,  # what is added to
    INPUT: tl.constexpr,
    H: tl.constexpr,
    BACKWARD: tl.constexpr,
    GATES: tl.constexpr,
    DEPTH: tl.constexpr,
    RESIDENT: tl.constexpr,
    TYPE: tl.constexpr,
):
    """Add the product of some rows with a program's weights, in fp32."""
    UNITS: tl.constexpr = total.shape[1] if BACKWARD else total.shape[1] // 4
    stride: tl.constexpr = 4 * H if BACKWARD else H
    width: tl.constexpr = GATES * H if BACKWARD else H
    CHUNKS: tl.constexpr = (width + DEPTH - 1) // DEPTH
    begin: tl.constexpr = CHUNKS if INPUT else 0
    at = left + rows[:, None] * stride + tl.arange(0, DEPTH)[None, :]
    for chunk in tl.static_range(CHUNKS):
        there = alive[:, None]
        if (chunk + 1) * DEPTH > width:
            there = there & (chunk * DEPTH + tl.arange(0, DEPTH) < width)[None, :]
        # past the first-level cache, which is not told what other programs write
        part = tl.load(at + chunk * DEPTH, there, 0.0, cache_modifier=".cg")
        if begin + chunk < RESIDENT:
            known = weights[begin + chunk]
        elif BACKWARD:
            known = _unit_weights(w, chunk, first, H, GATES, UNITS, DEPTH)
        else:
            known = _gate_weights(w, chunk, first, INPUT, H, GATES, UNITS, DEPTH)
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


@triton.jit(do_not_specialize=["steps", "start"])
def forward(
    x,  # gate inputs of the lowest layer, (T, B, G H)
    w,  # recurrent weights in the order of slots, (layers, G H, H)
    w_in,  # weights from the layer below, (layers, G H, H), the lowest layer's zero; of one layer None
    bias,  # what is not in x, in the order of slots, (layers, 4 H) fp32, or None
    reset,  # (T, B) uint8, or None
    drop,  # factors of what a layer above reads, (layers - 1, T, B, H), or None
    gates,  # slots, (layers, T + 1, B, 4 H), or None: not kept
    h,  # (layers, T + 1, B, H), the first timestep there, the others written
    passed,  # what a layer above reads: h, or where factors are dropped, (layers - 1, T + 1, B, H)
    state,  # c of an LSTM, h of a GRU, fp32: as h if gates are kept, else (layers, 1, B, H), overwritten
    counter,  # (layers, groups) int32 zeros
    steps,
    start,  # the first layer of the launch
    length,  # T
    B,
    tiles,  # of rows
    slices,  # programs that share rows and layer
    drop_layer,  # from one layer's factors to the next
    drop_step,  # from one timestep's
    H: tl.constexpr,
    GRU: tl.constexpr,
    LAYERS: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    DEPTH: tl.constexpr,  # of one part of a product
    CHUNKS: tl.constexpr,  # parts of a product
    RESIDENT: tl.constexpr,  # of all parts those with weights that stay; others read theirs in every timestep
    TYPE: tl.constexpr,  # dtype in which operands are multiplied
):
    """Run a window from the first timestep to the last, in programs of (units, rows, layers)."""
    GATES: tl.constexpr = 3 if GRU else 4
    first = tl.program_id(0) * UNITS
    counter += tl.program_id(1)
    u = first + tl.arange(0, UNITS)
    if LAYERS > 1:
        layer = tl.program_id(2).to(tl.int64) + start
        counter += layer * tl.num_programs(1)
        upper = (layer > 0).to(tl.int32)
        below_counter = counter - upper * tl.num_programs(1)
        w += layer * GATES * H * H
        w_in += layer * GATES * H * H
        bias += layer * 4 * H
        below = passed + (layer - 1) * (length + 1) * B * H
        h += layer * (length + 1) * B * H
        if drop is not None:
            passed += layer * (length + 1) * B * H
            drop += layer * drop_layer
        if gates is None:
            state += layer * B * H
        else:
            state += layer * (length + 1) * B * H
            gates += layer * (length + 1) * B * 4 * H
    weights = ()
    for part in tl.static_range(RESIDENT):
        if part < CHUNKS:
            weights += (_gate_weights(w, part, first, False, H, GATES, UNITS, DEPTH),)
        else:
            weights += (_gate_weights(w_in, part - CHUNKS, first, True, H, GATES, UNITS, DEPTH),)
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
        given = inside
        if LAYERS > 1:
            given = inside & (layer == 0)
            h_in = below
            passed_t = passed
            drop_t = drop
        awaited = 0  # a tile begins with what is there
        for _ in range(steps):
            # what no other program makes is asked for before the wait
            x_0, x_1, x_2, x_3 = _load_slots(x_t + input_slot, H, given, GATES)
            alive = rows < B
            if reset is not None:
                alive = alive & (tl.load(reset_t + rows, alive, 0) == 0)
                carried = tl.where(alive[:, None], carried, 0.0)
                reset_t += B
            total = tl.full((ROWS, 4 * UNITS), 0.0, tl.float32)
            if bias is not None:
                column = tl.arange(0, 4 * UNITS)
                unit = first + column // 4
                total += tl.load(bias + column % 4 * H + unit, unit < H, 0.0)[None, :]
            if LAYERS > 1:
                _wait(below_counter, upper * (arrivals + slices))
                h_in += B * H
                fed = (rows < B) & (layer > 0)
                total = _product(
                    h_in, rows, fed, weights, w_in, first, total, True, H, False, GATES, DEPTH, RESIDENT, TYPE
                )
            _wait(counter, awaited)
            total = _product(
                h_t, rows, alive, weights, w, first, total, False, H, False, GATES, DEPTH, RESIDENT, TYPE
            )
            u_0, u_1, u_2, u_3 = _parted(total, ROWS, UNITS)
            if GRU:
                s_0, s_1, s_2, s_3, carried, output = _gru(x_0, x_1, x_2 + u_3, u_0, u_1, u_2, carried)
            else:
                s_0, s_1, s_2, s_3, carried, output = _lstm(
                    x_0 + u_0, x_1 + u_1, x_2 + u_2, x_3 + u_3, carried
                )
            h_t += B * H
            tl.store(h_t + own, output, inside)
            if drop is not None:
                read = inside & (layer < LAYERS - 1)  # nobody reads the top layer
                passed_t += B * H
                tl.store(passed_t + own, output * tl.load(drop_t + own, read, 0.0).to(tl.float32), read)
                drop_t += drop_step
            _arrive(counter)
            # what nobody waits for is stored after
            if gates is not None:
                state_t += B * H
                _store_slots(gates_t + slot, H, inside, s_0, s_1, s_2, s_3)
                gates_t += B * 4 * H
            tl.store(state_t + own, carried, inside)
            x_t += B * GATES * H
            arrivals += slices
            awaited = arrivals


@triton.jit(do_not_specialize=["steps", "start"])
def backward(
    w,  # as for forward
    w_in,
    reset,  # (T + 1, B) uint8, from the last timestep on, or None
    drop,  # from the last timestep on, or None
    gates,  # (layers, T + 1, B, 4 H), from the last timestep on; gradients replace slots, after the last: 0
    d_output,  # (layers, T, B, H), from the last timestep on
    state,  # (layers, T + 1, B, H), from the last but one on
    carry,  # gradient of the state after the window, then of that before, (layers, B, H) fp32
    counter,
    steps,
    start,  # the last layer of the launch
    length,
    B,
    tiles,
    slices,
    drop_layer,
    drop_step,
    H: tl.constexpr,
    GRU: tl.constexpr,
    LAYERS: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    DEPTH: tl.constexpr,
    CHUNKS: tl.constexpr,
    RESIDENT: tl.constexpr,
    TYPE: tl.constexpr,
):
    """Run a window from the last timestep to the first, the top layer ahead."""
    GATES: tl.constexpr = 3 if GRU else 4
    first = tl.program_id(0) * UNITS
    counter += tl.program_id(1)
    u = first + tl.arange(0, UNITS)
    if LAYERS > 1:
        layer = start - tl.program_id(2).to(tl.int64)
        counter += layer * tl.num_programs(1)
        lower = (layer < LAYERS - 1).to(tl.int32)
        above_counter = counter + lower * tl.num_programs(1)
        w += layer * GATES * H * H
        w_in += (layer + 1) % LAYERS * GATES * H * H  # above the top layer: zeros
        gates += layer * (length + 1) * B * 4 * H
        d_output += layer * length * B * H
        state += layer * (length + 1) * B * H
        carry += layer * B * H
        if drop is not None:
            drop += layer * drop_layer
    weights = ()
    for part in tl.static_range(RESIDENT):
        if part < CHUNKS:
            weights += (_unit_weights(w, part, first, H, GATES, UNITS, DEPTH),)
        else:
            weights += (_unit_weights(w_in, part - CHUNKS, first, H, GATES, UNITS, DEPTH),)
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
        drop_t = drop
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
            zeros = tl.full((ROWS, UNITS), 0.0, tl.float32)
            if LAYERS > 1:
                _wait(above_counter, lower * (arrivals + slices))
                d_in = gates_t + (length + 1) * B * 4 * H + (4 - GATES) * H
                read = (rows < B) & (layer < LAYERS - 1)
                from_above = _product(
                    d_in, rows, read, weights, w_in, first, zeros, True, H, True, GATES, DEPTH, RESIDENT, TYPE
                )
                if drop is not None:
                    from_above *= tl.load(drop_t + own, inside & read[:, None], 0.0).to(tl.float32)
                    drop_t -= drop_step
                d_h += from_above
            _wait(counter, awaited)
            d_t = gates_t + B * 4 * H  # gradients of the timestep after
            d_h += _product(
                d_t, rows, onward, weights, w, first, zeros, False, H, True, GATES, DEPTH, RESIDENT, TYPE
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
