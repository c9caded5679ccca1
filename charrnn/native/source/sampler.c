/* One character after another: every layer's step, the readout and the draw, with packed weights.
 *
 * Streams are rows; each thread takes some of them through the whole text. Sums run over k in order, so a stream's
 * text does not depend on the streams beside it.
 */
#include <math.h>
#include <stdlib.h>

#include "tile.h"

/* Panels hold GROUPS times WIDTH units of a gated cell, so that one stream has sums enough to keep busy. */
#define GROUPS 2

typedef struct {
    int I;                 /* width of the input; 0 in the first layer, which reads a table */
    const float *start;    /* table (V, G H) of input and bias, or bias (G H) */
    const float *inner;    /* GRU: bias of U_n h, (H) */
    const float *scale;    /* INT8: of every row of weights, (G H) */
    const void *input;     /* packed (G H, I) */
    const void *recurrent; /* packed (G H, H) */
} layer;

typedef struct {
    int cell, type, H, V, L;
    const layer *layers;
    const void *readout; /* packed (V, H) */
    const float *readout_bias, *readout_scale;
} model;

typedef struct {
    double temperature, top_p, min_p;
    int top_k;
    int boundary, escape; /* ids; an escape of -1 is none */
} choice;

/* Three rows at once where their sums fit the registers, else one. */
#define STEP_ROWS(vectors) (REGISTERS - 4 >= 3 * (vectors) ? 3 : 1)

#define STEP_TILE(type, rows, vectors)                                                                              \
    static __attribute__((noinline)) void step_tile_##type##_##rows##_##vectors(                                    \
        const float *const *row, const void *weights, long panel, int depth, vec *sums, int add) {                  \
        const int most = (rows) <= STEP_ROWS(vectors) ? (rows) : 1;                                                 \
        if ((type) == INT8)                                                                                         \
            tile_int8(most, vectors, (const short_row *const *)row, weights, panel, depth, sums, add);              \
        else tile(type, most, vectors, row, weights, panel, depth, sums, add);                                      \
    }
#define STEP_TILES(vectors)                                                                                          \
    STEP_TILE(FP32, 1, vectors) STEP_TILE(FP32, 3, vectors) STEP_TILE(BF16, 1, vectors) STEP_TILE(BF16, 3, vectors) \
    STEP_TILE(INT8, 1, vectors) STEP_TILE(INT8, 3, vectors)                                                          \
    static tile_function *const step_tiles_##vectors[3][2] = {                                                       \
        {step_tile_FP32_1_##vectors, step_tile_FP32_3_##vectors},                                                    \
        {step_tile_BF16_1_##vectors, step_tile_BF16_3_##vectors},                                                    \
        {step_tile_INT8_1_##vectors, step_tile_INT8_3_##vectors}};

STEP_TILES(4)
STEP_TILES(6)
STEP_TILES(8)

/* One timestep of a layer for some rows. */
typedef struct {
    const model *m;
    const layer *l;
    const float *const *start; /* every row's input and bias, (G H) */
    const float *const *x;     /* every row's input, (I); with INT8 a short_row */
    const float *const *h;     /* every row's state, (H); with INT8 a short_row */
    const float *const *before; /* every row's state, (H) */
    float *const *h_next;
    float *const *c;           /* changed in place */
} step;

INLINE vec finished(const model *m, const float *scale, vec sum, int at, int n, const float *start) {
    const vec begun = load_part(start + at, n);
    return m->type == INT8 ? sum * load_part(scale + at, n) + begun : sum + begun;
}

/* The new state of up to WIDTH units of row b from what their gates sum to; `inner` is the GRU's U h. */
INLINE void update(const step *s, int b, int u, int n, const vec *sum, const vec *inner) {
    const int H = s->m->H, cell = s->m->cell, gates = cell == LSTM ? 4 : cell == GRU ? 3 : 1;
    vec z[4];
    for (int g = 0; g < gates; g++) {
        const vec both = cell == GRU && g < 2 ? sum[g * GROUPS] + inner[g * GROUPS] : sum[g * GROUPS];
        z[g] = finished(s->m, s->l->scale, both, g * H + u, n, s->start[b]);
    }
    vec h;
    if (cell == LSTM) {
        const vec c = sigmoid(z[1]) * load_part(s->c[b] + u, n) + sigmoid(z[0]) * hyperbolic_tangent(z[2]);
        store_part(s->c[b] + u, c, n);
        h = sigmoid(z[3]) * hyperbolic_tangent(c);
    } else if (cell == GRU) {
        const float *scale = s->l->scale ? s->l->scale + 2 * H : 0;
        const vec recurrent = finished(s->m, scale, inner[2 * GROUPS], u, n, s->l->inner);
        const vec new = hyperbolic_tangent(z[2] + sigmoid(z[0]) * recurrent);
        h = new + sigmoid(z[1]) * (load_part(s->before[b] + u, n) - new);
    } else h = cell == ELMAN ? hyperbolic_tangent(z[0]) : rectifier(z[0]);
    store_part(s->h_next[b] + u, h, n);
}

static void step_layer(const step *s, int rows) {
    const int cell = s->m->cell, H = s->m->H, gates = cell == LSTM ? 4 : cell == GRU ? 3 : 1;
    const int groups = gates == 1 ? 4 : GROUPS, vectors = gates * groups;
    const int most = STEP_ROWS(8) == 3 || (STEP_ROWS(4) == 3 && vectors == 4) ? 3 : 1;
    tile_function *const *tiles = (gates == 1 ? step_tiles_4 : cell == GRU ? step_tiles_6 : step_tiles_8)[s->m->type];
    vec sums[24], inner[24];
    for (int unit = 0; unit < H; unit += groups * WIDTH)
        for (int first = 0, n; first < rows; first += n) {
            n = rows - first < most ? 1 : most;
            const long panel = (long)unit * gates;
            tiles[n == 3](s->x + first, s->l->input, panel * s->l->I, s->l->I, sums, 0);
            tiles[n == 3](s->h + first, s->l->recurrent, panel * H, H, cell == GRU ? inner : sums, cell != GRU);
            for (int i = 0; i < n * groups; i++) {
                const int q = i % groups, u = unit + q * WIDTH, at = i / groups * vectors + q;
                if (u < H) update(s, first + i / groups, u, H - u, sums + at, inner + at);
            }
        }
}

/* Round a row to whole numbers so small that an inner product with weights of 8 bits fits into 32. */
static void shorten(const float *row, int n, short_row *out) {
    const float limit = n > 516 ? (float)(INT32_MAX / 127 / n) : 32767.0f, magic = 12582912.0f;
    ints largest = {};
    for (int k = 0; k < n; k += WIDTH) {
        const ints size = (ints)load_part(row + k, n - k) & INT32_MAX, more = size > largest; /* not-a-number is largest */
        largest = (size & more) | (largest & ~more);
    }
    int32_t bits = 0;
    for (int i = 0; i < WIDTH; i++) bits = largest[i] > bits ? largest[i] : bits;
    float most;
    memcpy(&most, &bits, sizeof most);
    const float factor = most > 1e-30f ? limit / most : 0.0f;
    out->quantum = most / limit;
    for (int k = 0; k < n; k += WIDTH)
        store_shorts(out->values + k, (ints)(load_part(row + k, n - k) * factor + magic) - 0x4b400000);
}

static void readout(const model *m, const float *h, float *logits) {
    vec sums[4];
    for (int unit = 0; unit < m->V; unit += 4 * WIDTH) {
        step_tiles_4[m->type][0](&h, m->readout, (long)unit * m->H, m->H, sums, 0);
        for (int v = 0; v < 4; v++) {
            const int u = unit + v * WIDTH, n = m->V - u;
            if (n > 0) store_part(logits + u, finished(m, m->readout_scale, sums[v], u, n, m->readout_bias), n);
        }
    }
}

/* -- the draw ----------------------------------------------------------------------------------------------------- */

typedef struct {
    double p;
    int id;
} candidate;

/* The more probable first, of equals the smaller id. */
static int by_probability(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    return x->p != y->p ? (x->p < y->p) - (x->p > y->p) : x->id - y->id;
}

/* Draw an id: temperature, then top-k, top-p and min-p each thin out what the one before left. */
static int draw(const float *logits, int V, const choice *how, int last, double uniform, candidate *p) {
    int best = -1;
    for (int j = 0; j < V; j++) {
        const int banned = j == how->escape || (j == how->boundary && last == how->boundary);
        p[j].id = j;
        p[j].p = banned ? 0.0 : 1.0;
        if (!banned && (best < 0 || logits[j] > logits[best])) best = j;
    }
    if (how->temperature == 0.0) return best;
    double sum = 0.0, cumulative = 0.0;
    for (int j = 0; j < V; j++) {
        if (p[j].p != 0.0) p[j].p = exp(((double)logits[j] - logits[best]) / how->temperature);
        sum += p[j].p;
    }
    if (how->top_k || how->top_p < 1.0) {
        const double most = how->top_p;
        qsort(p, V, sizeof *p, by_probability);
        if (how->top_k && how->top_k < V) {
            for (int j = how->top_k; j < V; j++) p[j].p = 0.0;
            sum = 0.0;
            for (int j = 0; j < how->top_k; j++) sum += p[j].p;
        }
        for (int j = 0; j < V && most < 1.0; cumulative += p[j].p, j++)
            if (cumulative >= most * sum) {
                for (int rest = j; rest < V; rest++) p[rest].p = 0.0;
                break;
            }
        for (int j = 0; j < V; j++) /* back into the order of ids: selection by swaps, each to its place */
            while (p[j].id != j) {
                const candidate other = p[p[j].id];
                p[p[j].id] = p[j];
                p[j] = other;
            }
    }
    double total = 0.0; /* the most probable one has p = 1 before it is divided by the sum */
    for (int j = 0; j < V; j++) {
        if (p[j].p < how->min_p) p[j].p = 0.0;
        total += p[j].p;
    }
    cumulative = 0.0;
    for (int j = 0; j < V; j++) {
        cumulative += p[j].p;
        if (cumulative > uniform * total) return j;
    }
    return best;
}

/* -- the text ----------------------------------------------------------------------------------------------------- */

typedef struct {
    float *h, *c;            /* (L, S, H), the state before the text and after it; c is the LSTM's alone */
    int64_t *symbols;        /* (S): the last id of every stream, not read yet */
    const double *uniforms;  /* (S, N), or NULL: then the text is only read */
    int64_t *text;           /* (S, N): drawn, or to be read */
    int S, N;
} task;

typedef struct {
    float *spare, *logits; /* (2, rows, H) and (V) */
    char *shorts;          /* short_rows (2, rows) of an input and a state, or NULL */
    const float **start, **x, **h, **before;
    float **next, **c;
    candidate *p;
} room;

/* Bytes of a short_row of n numbers, stored WIDTH at a time. */
INLINE size_t short_bytes(int n) {
    return sizeof(short_row) + ((size_t)n + WIDTH - 1) / WIDTH * WIDTH * sizeof(int16_t);
}

/* What the products read of a row: the row itself, or with INT8 its short form, kept at a place. */
static const float *operand(const model *m, const room *w, const float *row, long place) {
    if (m->type != INT8) return row;
    short_row *out = (short_row *)(w->shorts + place * short_bytes(m->H));
    shorten(row, m->H, out);
    return (const float *)out;
}

static void read_symbols(const model *m, const task *t, const room *w, int begin, int rows) {
    const long S = t->S, H = m->H;
    for (int l = 0; l < m->L; l++) {
        const layer *current = m->layers + l;
        for (int r = 0; r < rows; r++) {
            const long at = (l * S + begin + r) * H, gates = m->cell == LSTM ? 4 : m->cell == GRU ? 3 : 1;
            w->start[r] = current->start + (l ? 0 : t->symbols[begin + r] * gates * H);
            w->before[r] = t->h + at;
            w->h[r] = operand(m, w, t->h + at, rows + r);
            w->c[r] = t->c + at;
            w->next[r] = w->spare + ((l & 1) * (long)rows + r) * H;
        }
        const step s = {m, current, w->start, w->x, w->h, w->before, w->next, w->c};
        step_layer(&s, rows);
        for (int r = 0; r < rows; r++) {
            memcpy(t->h + (l * S + begin + r) * H, w->next[r], H * sizeof(float));
            w->x[r] = operand(m, w, w->next[r], r);
        }
    }
}

static void reset_documents(const model *m, const task *t, int boundary, int begin, int rows) {
    for (int s = begin; s < begin + rows; s++)
        for (int l = 0; l < m->L && t->symbols[s] == boundary; l++) {
            memset(t->h + ((long)l * t->S + s) * m->H, 0, m->H * sizeof(float));
            memset(t->c + ((long)l * t->S + s) * m->H, 0, m->H * sizeof(float));
        }
}

static void speak(const model *m, const task *t, const choice *how, const room *w, int begin, int rows) {
    for (int n = 0; n < t->N; n++) {
        reset_documents(m, t, how->boundary, begin, rows);
        read_symbols(m, t, w, begin, rows);
        for (int r = 0; r < rows; r++) {
            const long s = begin + r, at = s * t->N + n;
            if (t->uniforms) {
                readout(m, w->x[r], w->logits);
                t->text[at] = draw(w->logits, m->V, how, (int)t->symbols[s], t->uniforms[at], w->p);
            }
            t->symbols[s] = t->text[at];
        }
    }
}

/* Read every stream's last id and draw the next, N times; or read a given text. Returns 1 if there was no memory. */
EXPORT(sample)(const model *m, const task *t, const choice *how, int threads) {
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        const int index = omp_get_thread_num(), count = omp_get_num_threads();
        const int begin = (int)((long)t->S * index / count), end = (int)((long)t->S * (index + 1) / count);
        const int rows = end - begin;
        float *floats = malloc(((size_t)2 * rows * m->H + m->V) * sizeof(float));
        void **pointers = malloc((size_t)6 * (rows + 1) * sizeof(void *));
        char *shorts = malloc(2 * (size_t)(rows + 1) * short_bytes(m->H));
        candidate *p = malloc((size_t)m->V * sizeof *p);
        failed = !floats || !pointers || !shorts || !p;
        if (!failed && rows) {
            const float **reads = (const float **)pointers;
            float **writes = (float **)pointers + 4 * rows;
            const room w = {floats, floats + (long)2 * rows * m->H, shorts, reads, reads + rows, reads + 2 * rows,
                            reads + 3 * rows, writes, writes + rows, p};
            speak(m, t, how, &w, begin, rows);
        }
        free(floats);
        free(pointers);
        free(shorts);
        free(p);
    }
    return failed;
}
