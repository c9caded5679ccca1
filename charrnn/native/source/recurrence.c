/* Recurrent layers over a window: forward with everything kept that backward needs, and backward.
 *
 * Shapes are time-first and contiguous: T timesteps, B rows, H neurons, G gates. Gates stand in PyTorch's order.
 * Rows are independent, so each thread takes some of them through the whole window and nothing waits.
 */
#include <omp.h>
#include <stdlib.h>

#include "tile.h"

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

typedef struct {
    const window *w;
    const float *zeros; /* (G H) of them: the state of a row that was reset */
    int t, first;       /* timestep, first row of the block */
} place;

INLINE long at(const window *w, int t, int b) { return (long)t * w->B + b; }
INLINE int is_reset(const window *w, int t, int b) { return w->reset && w->reset[at(w, t, b)]; }

INLINE const float *input_row(const window *w, int gates, int t, int b) {
    const long row = w->ids ? (long)w->ids[at(w, t, b)] : at(w, t, b);
    return w->input + row * gates * w->H;
}

/* Rows of h before timestep t. */
INLINE void state_rows(const int rows, const place *p, const float **row) {
    for (int r = 0; r < rows; r++) {
        const int b = p->first + r;
        row[r] = is_reset(p->w, p->t, b) ? p->zeros : p->w->h + at(p->w, p->t, b) * p->w->H;
    }
}

/* -- forward ------------------------------------------------------------------------------------------------ */

INLINE void lstm_forward(const int rows, const int whole, const place *p, int unit) {
    const window *w = p->w;
    const int H = w->H, n = whole ? WIDTH : H - unit;
    const float *row[MOST_ROWS];
    vec acc[MAX_ROWS(4)][4];
    state_rows(rows, p, row);
    UNROLL for (int r = 0; r < rows; r++) {
        const float *x = input_row(w, 4, p->t, p->first + r) + unit;
        UNROLL for (int g = 0; g < 4; g++) acc[r][g] = load_part(x + g * H, n);
    }
    tile(rows, 4, row, w->panels + (long)unit * 4 * H, H, &acc[0][0]);
    UNROLL for (int r = 0; r < rows; r++) {
        const int b = p->first + r;
        const long now = at(w, p->t, b) * H + unit, next = at(w, p->t + 1, b) * H + unit;
        const vec i = sigmoid(acc[r][0]), f = sigmoid(acc[r][1]);
        const vec g = hyperbolic_tangent(acc[r][2]), o = sigmoid(acc[r][3]);
        const vec before = is_reset(w, p->t, b) ? (vec){} : load_part(w->c + now, n);
        const vec c = f * before + i * g;
        float *gates = w->gates + at(w, p->t, b) * 4 * H + unit;
        store_part(gates, i, n);
        store_part(gates + H, f, n);
        store_part(gates + 2 * H, g, n);
        store_part(gates + 3 * H, o, n);
        store_part(w->c + next, c, n);
        store_part(w->h + next, o * hyperbolic_tangent(c), n);
    }
}

INLINE void gru_forward(const int rows, const int whole, const place *p, int unit) {
    const window *w = p->w;
    const int H = w->H, n = whole ? WIDTH : H - unit;
    const float *row[MOST_ROWS];
    vec acc[MAX_ROWS(3)][3];
    state_rows(rows, p, row);
    UNROLL for (int r = 0; r < rows; r++) {
        const float *x = input_row(w, 3, p->t, p->first + r) + unit;
        acc[r][0] = load_part(x, n);
        acc[r][1] = load_part(x + H, n);
        acc[r][2] = load_part(w->bias + unit, n);
    }
    tile(rows, 3, row, w->panels + (long)unit * 3 * H, H, &acc[0][0]);
    UNROLL for (int r = 0; r < rows; r++) {
        const int b = p->first + r;
        const long now = at(w, p->t, b) * H + unit, next = at(w, p->t + 1, b) * H + unit;
        const vec x = load_part(input_row(w, 3, p->t, b) + 2 * H + unit, n);
        const vec reset = sigmoid(acc[r][0]), z = sigmoid(acc[r][1]);
        const vec new = hyperbolic_tangent(x + reset * acc[r][2]);
        float *gates = w->gates + at(w, p->t, b) * 3 * H + unit;
        store_part(gates, reset, n);
        store_part(gates + H, z, n);
        store_part(gates + 2 * H, new, n);
        store_part(w->kept + now, acc[r][2], n);
        store_part(w->h + next, new + z * (load_part(row[r] + unit, n) - new), n);
    }
}

INLINE void elman_forward(const int rows, const int whole, const place *p, int unit, int rectified) {
    const window *w = p->w;
    const int H = w->H, n = whole ? 2 * WIDTH : H - unit;
    const float *row[MOST_ROWS];
    vec acc[MAX_ROWS(2)][2];
    state_rows(rows, p, row);
    UNROLL for (int r = 0; r < rows; r++) {
        const float *x = input_row(w, 1, p->t, p->first + r) + unit;
        acc[r][0] = load_part(x, n);
        acc[r][1] = n > WIDTH ? load_part(x + WIDTH, n - WIDTH) : (vec){};
    }
    tile(rows, 2, row, w->panels + (long)unit * H, H, &acc[0][0]);
    UNROLL for (int r = 0; r < rows; r++) {
        float *h = w->h + at(w, p->t + 1, p->first + r) * H + unit;
        UNROLL for (int v = 0; v < 2; v++) {
            if (n <= v * WIDTH) break;
            const vec a = acc[r][v];
            store_part(h + v * WIDTH, rectified ? (vec)((ints)a & (a > 0)) : hyperbolic_tangent(a), n - v * WIDTH);
        }
    }
}

/* -- backward: acc is the gradient of h from the next timestep and from above ------------------------------------ */

/* Rows of the next timestep's gate gradients; none where the state was cut off, or after the window. */
INLINE void gradient_rows(const int rows, const place *p, const float *array, long width, const float **row) {
    const window *w = p->w;
    for (int r = 0; r < rows; r++) {
        const int b = p->first + r, next = p->t + 1;
        row[r] = next == w->T || is_reset(w, next, b) ? p->zeros : array + at(w, next, b) * width;
    }
}

INLINE void start_gradient(const int rows, const int whole, const place *p, int unit, vec acc[][2]) {
    const window *w = p->w;
    UNROLL for (int r = 0; r < rows; r++) {
        const long b = p->first + r, above = at(w, p->t, b) * w->H + unit;
        UNROLL for (int v = 0; v < 2; v++) {
            const int n = whole ? WIDTH : w->H - unit - v * WIDTH;
            acc[r][v] = n > 0 ? load_part(w->dh + above + v * WIDTH, n) : (vec){};
            if (n > 0) acc[r][v] += load_part(w->carry_h + b * w->H + unit + v * WIDTH, n);
        }
    }
}

INLINE void lstm_backward(const int rows, const int whole, const place *p, int unit) {
    const window *w = p->w;
    const int H = w->H;
    const float *row[MOST_ROWS];
    vec acc[MAX_ROWS(2)][2];
    gradient_rows(rows, p, w->gates, 4L * H, row);
    start_gradient(rows, whole, p, unit, acc);
    tile(rows, 2, row, w->panels + (long)unit * 4 * H, 4 * H, &acc[0][0]);
    UNROLL for (int r = 0; r < rows; r++) {
        const int b = p->first + r, cut = is_reset(w, p->t, b);
        UNROLL for (int v = 0; v < 2; v++) {
            const int u = unit + v * WIDTH, n = whole ? WIDTH : H - u;
            if (n <= 0) break;
            float *gates = w->gates + at(w, p->t, b) * 4 * H + u, *carry = w->carry_c + (long)b * H + u;
            const long now = at(w, p->t, b) * H + u;
            const vec i = load_part(gates, n), f = load_part(gates + H, n);
            const vec g = load_part(gates + 2 * H, n), o = load_part(gates + 3 * H, n);
            const vec squashed = hyperbolic_tangent(load_part(w->c + now + (long)w->B * H, n));
            const vec before = cut ? (vec){} : load_part(w->c + now, n);
            const vec dc = load_part(carry, n) + acc[r][v] * o * (1.0f - squashed * squashed);
            store_part(gates, dc * g * i * (1.0f - i), n);
            store_part(gates + H, dc * before * f * (1.0f - f), n);
            store_part(gates + 2 * H, dc * i * (1.0f - g * g), n);
            store_part(gates + 3 * H, acc[r][v] * squashed * o * (1.0f - o), n);
            store_part(carry, cut ? (vec){} : dc * f, n);
            store_part(w->carry_h + (long)b * H + u, (vec){}, n);
        }
    }
}

INLINE void gru_backward(const int rows, const int whole, const place *p, int unit) {
    const window *w = p->w;
    const int H = w->H;
    const float *row[MOST_ROWS], *row_n[MOST_ROWS], *before[MOST_ROWS];
    vec acc[MAX_ROWS(2)][2];
    gradient_rows(rows, p, w->gates, 3L * H, row);
    gradient_rows(rows, p, w->kept, H, row_n);
    state_rows(rows, p, before);
    start_gradient(rows, whole, p, unit, acc);
    tile(rows, 2, row, w->panels + (long)unit * 3 * H, 2 * H, &acc[0][0]);
    tile(rows, 2, row_n, w->panels + (long)unit * 3 * H + 4L * H * WIDTH, H, &acc[0][0]);
    UNROLL for (int r = 0; r < rows; r++) {
        const int b = p->first + r, cut = is_reset(w, p->t, b);
        UNROLL for (int v = 0; v < 2; v++) {
            const int u = unit + v * WIDTH, n = whole ? WIDTH : H - u;
            if (n <= 0) break;
            float *gates = w->gates + at(w, p->t, b) * 3 * H + u, *recurrent = w->kept + at(w, p->t, b) * H + u;
            const vec reset = load_part(gates, n), z = load_part(gates + H, n), new = load_part(gates + 2 * H, n);
            const vec dn = acc[r][v] * (1.0f - z) * (1.0f - new * new);
            const vec dz = acc[r][v] * (load_part(before[r] + u, n) - new) * z * (1.0f - z);
            store_part(gates, dn * load_part(recurrent, n) * reset * (1.0f - reset), n);
            store_part(gates + H, dz, n);
            store_part(gates + 2 * H, dn, n);
            store_part(recurrent, dn * reset, n);
            store_part(w->carry_h + (long)b * H + u, cut ? (vec){} : acc[r][v] * z, n);
        }
    }
}

INLINE void elman_backward(const int rows, const int whole, const place *p, int unit, int rectified) {
    const window *w = p->w;
    const int H = w->H;
    const float *row[MOST_ROWS];
    vec acc[MAX_ROWS(2)][2];
    gradient_rows(rows, p, w->gates, H, row);
    start_gradient(rows, whole, p, unit, acc);
    tile(rows, 2, row, w->panels + (long)unit * H, H, &acc[0][0]);
    UNROLL for (int r = 0; r < rows; r++) {
        const int b = p->first + r;
        UNROLL for (int v = 0; v < 2; v++) {
            const int u = unit + v * WIDTH, n = whole ? WIDTH : H - u;
            if (n <= 0) break;
            const vec h = load_part(w->h + at(w, p->t + 1, b) * H + u, n), d = acc[r][v];
            const vec da = rectified ? (vec)((ints)d & (h > 0)) : d * (1.0f - h * h);
            store_part(w->gates + at(w, p->t, b) * H + u, da, n);
            store_part(w->carry_h + (long)b * H + u, (vec){}, n);
        }
    }
}

/* -- the loops around them ---------------------------------------------------------------------------------------- */

/* Every row block of every panel of `step` units, panels outermost: a panel is read from near memory. A last
 * panel that is not whole takes one row at a time. */
#define EACH_BLOCK(vectors, step, function, ...)                                                               \
    for (int unit = 0; unit < w->H; unit += (step)) {                                                          \
        const int whole = unit + (step) <= w->H, block = block_rows(end - begin, MAX_ROWS(vectors));           \
        for (int first = begin, n; first < end; first += n) {                                                  \
            const place at_block = {w, zeros, t, first};                                                       \
            n = !whole ? 1 : end - first < block ? end - first : block;                                        \
            if (!whole) function(1, 0, &at_block, unit __VA_OPT__(,) __VA_ARGS__);                            \
            else CONSTANT_ROWS(n, MAX_ROWS(vectors), function, 1, &at_block, unit __VA_OPT__(,) __VA_ARGS__)  \
        }                                                                                                      \
    }

enum { LSTM, GRU, ELMAN, ELMAN_RELU };

static void forward_rows(const window *w, int cell, const float *zeros, int begin, int end) {
    for (int t = 0; t < w->T; t++) {
        if (cell == LSTM) EACH_BLOCK(4, WIDTH, lstm_forward)
        else if (cell == GRU) EACH_BLOCK(3, WIDTH, gru_forward)
        else EACH_BLOCK(2, 2 * WIDTH, elman_forward, cell == ELMAN_RELU)
    }
}

static void backward_rows(const window *w, int cell, const float *zeros, int begin, int end) {
    for (int t = w->T - 1; t >= 0; t--) {
        if (cell == LSTM) EACH_BLOCK(2, 2 * WIDTH, lstm_backward)
        else if (cell == GRU) EACH_BLOCK(2, 2 * WIDTH, gru_backward)
        else EACH_BLOCK(2, 2 * WIDTH, elman_backward, cell == ELMAN_RELU)
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
        if (begin < end) (backward ? backward_rows : forward_rows)(w, cell, zeros, begin, end);
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
