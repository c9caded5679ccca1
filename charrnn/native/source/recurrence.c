/* Recurrent layers over a window: forward with everything kept that backward needs, and backward.
 *
 * Shapes are time-first and contiguous: T timesteps, B rows, H neurons, G gates. Gates stand in PyTorch's order.
 * Rows are independent, so each thread takes some of them through the whole window and nothing waits.
 */
#include <stdlib.h>

#include "tile.h"

TILES(2)
TILES(3)
TILES(4)

/* One layer's window. Arrays are (T, B, .) unless said otherwise; h and c have a timestep more: the state before. */
typedef struct {
    int T, B, H;
    const float *input;   /* W x + b, (T, B, G H), may be the same array as gates; or a table (V, G H) if ids are given */
    const int64_t *ids;   /* (T, B) or NULL */
    const uint8_t *reset; /* (T, B): the state is zero before this timestep; or NULL */
    const float *bias;    /* the GRU's recurrent bias of n, (H); others fold theirs into the input */
    const float *panels;  /* packed recurrent weights: see pack_forward and pack_backward */
    float *gates;         /* (T, B, G H), activated; backward puts the gradients of W x + b here */
    float *kept;          /* GRU: U_n h + b_n, whose gradient backward puts here, (T, B, H) */
    float *h;             /* (T + 1, B, H) */
    float *c;             /* (T + 1, B, H) */
    const float *dh;      /* gradient of h, (T, B, H) */
    float *carry_h;       /* gradient of the state after the window, and then what is carried back past U, (B, H) */
    float *carry_c;
} window;

/* Some rows at a timestep, and the units of a panel. */
typedef struct {
    const window *w;
    const float *zeros; /* (G H) of them: the state of a row that was reset */
    int t, first, rows, unit;
} block;

INLINE long at(const window *w, int t, int b) { return (long)t * w->B + b; }
INLINE int is_reset(const window *w, int t, int b) { return w->reset && w->reset[at(w, t, b)]; }

INLINE const float *input_row(const window *w, int gates, int t, int b) {
    const long row = w->ids ? (long)w->ids[at(w, t, b)] : at(w, t, b);
    return w->input + row * gates * w->H;
}

/* Rows of h before the timestep. */
INLINE void state_rows(const block *p, const float **row) {
    for (int r = 0; r < p->rows; r++) {
        const int b = p->first + r;
        row[r] = is_reset(p->w, p->t, b) ? p->zeros : p->w->h + at(p->w, p->t, b) * p->w->H;
    }
}

/* -- forward ------------------------------------------------------------------------------------------------ */

static void lstm_forward(const block *p) {
    const window *w = p->w;
    const int H = w->H, n = H - p->unit;
    const float *row[MOST_ROWS];
    vec sums[MOST_SUMS];
    state_rows(p, row);
    tiles_4[p->rows - 1](row, w->panels, (long)p->unit * 4 * H, H, sums, 0);
    for (int r = 0; r < p->rows; r++) {
        const int b = p->first + r;
        const long now = at(w, p->t, b) * H + p->unit, next = now + (long)w->B * H;
        const float *x = input_row(w, 4, p->t, b) + p->unit;
        const vec i = sigmoid(sums[4 * r] + load_part(x, n)), f = sigmoid(sums[4 * r + 1] + load_part(x + H, n));
        const vec g = hyperbolic_tangent(sums[4 * r + 2] + load_part(x + 2 * H, n));
        const vec o = sigmoid(sums[4 * r + 3] + load_part(x + 3 * H, n));
        const vec before = is_reset(w, p->t, b) ? (vec){} : load_part(w->c + now, n);
        const vec c = f * before + i * g;
        float *gates = w->gates + at(w, p->t, b) * 4 * H + p->unit;
        store_part(gates, i, n);
        store_part(gates + H, f, n);
        store_part(gates + 2 * H, g, n);
        store_part(gates + 3 * H, o, n);
        store_part(w->c + next, c, n);
        store_part(w->h + next, o * hyperbolic_tangent(c), n);
    }
}

static void gru_forward(const block *p) {
    const window *w = p->w;
    const int H = w->H, n = H - p->unit;
    const float *row[MOST_ROWS];
    vec sums[MOST_SUMS];
    state_rows(p, row);
    tiles_3[p->rows - 1](row, w->panels, (long)p->unit * 3 * H, H, sums, 0);
    const vec bias = load_part(w->bias + p->unit, n);
    for (int r = 0; r < p->rows; r++) {
        const int b = p->first + r;
        const long now = at(w, p->t, b) * H + p->unit, next = now + (long)w->B * H;
        const float *x = input_row(w, 3, p->t, b) + p->unit;
        const vec reset = sigmoid(sums[3 * r] + load_part(x, n)), z = sigmoid(sums[3 * r + 1] + load_part(x + H, n));
        const vec recurrent = sums[3 * r + 2] + bias;
        const vec new = hyperbolic_tangent(load_part(x + 2 * H, n) + reset * recurrent);
        float *gates = w->gates + at(w, p->t, b) * 3 * H + p->unit;
        store_part(gates, reset, n);
        store_part(gates + H, z, n);
        store_part(gates + 2 * H, new, n);
        store_part(w->kept + now, recurrent, n);
        store_part(w->h + next, new + z * (load_part(row[r] + p->unit, n) - new), n);
    }
}

INLINE void elman_forward(const block *p, const int rectified) {
    const window *w = p->w;
    const int H = w->H;
    const float *row[MOST_ROWS];
    vec sums[MOST_SUMS];
    state_rows(p, row);
    tiles_2[p->rows - 1](row, w->panels, (long)p->unit * H, H, sums, 0);
    for (int i = 0; i < 2 * p->rows; i++) {
        const int b = p->first + i / 2, u = p->unit + i % 2 * WIDTH, n = H - u;
        if (n <= 0) continue;
        const vec a = sums[i] + load_part(input_row(w, 1, p->t, b) + u, n);
        store_part(w->h + at(w, p->t + 1, b) * H + u, rectified ? rectifier(a) : hyperbolic_tangent(a), n);
    }
}

static void elman_tanh_forward(const block *p) { elman_forward(p, 0); }
static void elman_relu_forward(const block *p) { elman_forward(p, 1); }

/* -- backward --------------------------------------------------------------------------------------------------- */

/* Rows of the next timestep's gate gradients; none where the state was cut off, or after the window. */
INLINE void gradient_rows(const block *p, const float *array, long width, const float **row) {
    const window *w = p->w;
    for (int r = 0; r < p->rows; r++) {
        const int b = p->first + r, next = p->t + 1;
        row[r] = next == w->T || is_reset(w, next, b) ? p->zeros : array + at(w, next, b) * width;
    }
}

/* The gradient of h from the next timestep, from above and from what was carried past U. */
INLINE vec whole_gradient(const window *w, vec sum, long now, long carried, int n) {
    return sum + load_part(w->dh + now, n) + load_part(w->carry_h + carried, n);
}

static void lstm_backward(const block *p) {
    const window *w = p->w;
    const int H = w->H;
    const float *row[MOST_ROWS];
    vec sums[MOST_SUMS];
    gradient_rows(p, w->gates, 4L * H, row);
    tiles_2[p->rows - 1](row, w->panels, (long)p->unit * 4 * H, 4 * H, sums, 0);
    for (int j = 0; j < 2 * p->rows; j++) {
        const int b = p->first + j / 2, u = p->unit + j % 2 * WIDTH, n = H - u, cut = is_reset(w, p->t, b);
        if (n <= 0) continue;
        const long now = at(w, p->t, b) * H + u, carried = (long)b * H + u;
        float *gates = w->gates + at(w, p->t, b) * 4 * H + u;
        const vec i = load_part(gates, n), f = load_part(gates + H, n);
        const vec g = load_part(gates + 2 * H, n), o = load_part(gates + 3 * H, n);
        const vec squashed = hyperbolic_tangent(load_part(w->c + now + (long)w->B * H, n));
        const vec before = cut ? (vec){} : load_part(w->c + now, n);
        const vec dh = whole_gradient(w, sums[j], now, carried, n);
        const vec dc = load_part(w->carry_c + carried, n) + dh * o * (1.0f - squashed * squashed);
        store_part(gates, dc * g * i * (1.0f - i), n);
        store_part(gates + H, dc * before * f * (1.0f - f), n);
        store_part(gates + 2 * H, dc * i * (1.0f - g * g), n);
        store_part(gates + 3 * H, dh * squashed * o * (1.0f - o), n);
        store_part(w->carry_c + carried, cut ? (vec){} : dc * f, n);
        store_part(w->carry_h + carried, (vec){}, n);
    }
}

static void gru_backward(const block *p) {
    const window *w = p->w;
    const int H = w->H;
    const long panel = (long)p->unit * 3 * H;
    const float *row[MOST_ROWS], *row_n[MOST_ROWS], *before[MOST_ROWS];
    vec sums[MOST_SUMS];
    gradient_rows(p, w->gates, 3L * H, row);
    gradient_rows(p, w->kept, H, row_n);
    state_rows(p, before);
    tiles_2[p->rows - 1](row, w->panels, panel, 2 * H, sums, 0);
    tiles_2[p->rows - 1](row_n, w->panels, panel + 4L * H * WIDTH, H, sums, 1);
    for (int j = 0; j < 2 * p->rows; j++) {
        const int b = p->first + j / 2, u = p->unit + j % 2 * WIDTH, n = H - u;
        if (n <= 0) continue;
        const long now = at(w, p->t, b) * H + u, carried = (long)b * H + u;
        float *gates = w->gates + at(w, p->t, b) * 3 * H + u, *recurrent = w->kept + now;
        const vec reset = load_part(gates, n), z = load_part(gates + H, n), new = load_part(gates + 2 * H, n);
        const vec dh = whole_gradient(w, sums[j], now, carried, n);
        const vec dn = dh * (1.0f - z) * (1.0f - new * new);
        const vec dz = dh * (load_part(before[j / 2] + u, n) - new) * z * (1.0f - z);
        store_part(gates, dn * load_part(recurrent, n) * reset * (1.0f - reset), n);
        store_part(gates + H, dz, n);
        store_part(gates + 2 * H, dn, n);
        store_part(recurrent, dn * reset, n);
        store_part(w->carry_h + carried, is_reset(w, p->t, b) ? (vec){} : dh * z, n);
    }
}

INLINE void elman_backward(const block *p, const int rectified) {
    const window *w = p->w;
    const int H = w->H;
    const float *row[MOST_ROWS];
    vec sums[MOST_SUMS];
    gradient_rows(p, w->gates, H, row);
    tiles_2[p->rows - 1](row, w->panels, (long)p->unit * H, H, sums, 0);
    for (int j = 0; j < 2 * p->rows; j++) {
        const int b = p->first + j / 2, u = p->unit + j % 2 * WIDTH, n = H - u;
        if (n <= 0) continue;
        const long now = at(w, p->t, b) * H + u, carried = (long)b * H + u;
        const vec h = load_part(w->h + now + (long)w->B * H, n), dh = whole_gradient(w, sums[j], now, carried, n);
        store_part(w->gates + now, rectified ? (vec)((ints)dh & (h > 0)) : dh * (1.0f - h * h), n);
        store_part(w->carry_h + carried, (vec){}, n);
    }
}

static void elman_tanh_backward(const block *p) { elman_backward(p, 0); }
static void elman_relu_backward(const block *p) { elman_backward(p, 1); }

/* -- the loops around them ---------------------------------------------------------------------------------------- */

typedef struct {
    void (*run)(const block *);
    int vectors, step; /* of sums in a row of a tile; units of a panel */
} part;

static const part forward_part[] = {{lstm_forward, 4, WIDTH},
                                    {gru_forward, 3, WIDTH},
                                    {elman_tanh_forward, 2, 2 * WIDTH},
                                    {elman_relu_forward, 2, 2 * WIDTH}};
static const part backward_part[] = {{lstm_backward, 2, 2 * WIDTH},
                                     {gru_backward, 2, 2 * WIDTH},
                                     {elman_tanh_backward, 2, 2 * WIDTH},
                                     {elman_relu_backward, 2, 2 * WIDTH}};

/* One timestep of some rows, panels outermost: a panel is read from near memory for all its row blocks. */
static void timestep(const window *w, const part *cell, const float *zeros, int t, int begin, int end) {
    const int most = block_rows(end - begin, MAX_ROWS(cell->vectors));
    for (int unit = 0; unit < w->H; unit += cell->step)
        for (int first = begin; first < end; first += most) {
            const block p = {w, zeros, t, first, end - first < most ? end - first : most, unit};
            cell->run(&p);
        }
}

/* Run a window. Returns 0, or 1 if there was no memory. */
EXPORT(recurrence)(const window *w, int cell, int backward, int threads) {
    float *zeros = calloc(4 * (size_t)w->H, sizeof(float));
    if (!zeros) return 1;
#pragma omp parallel num_threads(threads)
    {
        const int index = omp_get_thread_num(), count = omp_get_num_threads();
        const int begin = (int)((long)w->B * index / count), end = (int)((long)w->B * (index + 1) / count);
        for (int t = 0; t < w->T && begin < end; t++)
            timestep(w, backward ? &backward_part[cell] : &forward_part[cell], zeros, backward ? w->T - 1 - t : t, begin, end);
    }
    free(zeros);
    return 0;
}

/* -- packing -------------------------------------------------------------------------------------------------- */

/* Pack (gates H, H) row-major weights for forward: [panel][k][gate][lane], a cell of one gate two vectors a panel.
 * Lanes past H are zero. */
EXPORT(pack_forward)(const float *weights, float *panels, int gates, int H, int threads) {
    const int vectors = gates == 1 ? 2 : gates, step = gates == 1 ? 2 * WIDTH : WIDTH;
#pragma omp parallel for num_threads(threads)
    for (int unit = 0; unit < H; unit += step) {
        float *panel = panels + (long)unit * gates * H;
        for (int k = 0; k < H; k++)
            for (int v = 0; v < vectors; v++)
                for (int lane = 0; lane < WIDTH; lane++) {
                    const int u = unit + lane + (gates == 1 ? v * WIDTH : 0), gate = gates == 1 ? 0 : v;
                    *panel++ = u < H ? weights[((long)gate * H + u) * H + k] : 0.0f;
                }
    }
    return 0;
}

/* Pack (depth, H) row-major weights for backward: [panel][k][two vectors]. */
EXPORT(pack_backward)(const float *weights, float *panels, int depth, int H, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int unit = 0; unit < H; unit += 2 * WIDTH) {
        float *panel = panels + (long)unit * depth;
        const int n = H - unit < 2 * WIDTH ? H - unit : 2 * WIDTH;
        for (int k = 0; k < depth; k++, panel += 2 * WIDTH) {
            memset(panel, 0, 2 * WIDTH * sizeof(float));
            memcpy(panel, weights + (long)k * H + unit, (size_t)n * sizeof(float));
        }
    }
    return 0;
}
