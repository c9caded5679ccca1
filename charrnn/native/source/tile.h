/* The inner product of every kernel: some rows of activations times one panel of packed weights. */
#ifndef CHARRNN_TILE_H
#define CHARRNN_TILE_H

#include "vector.h"

enum { LSTM, GRU, ELMAN, ELMAN_RELU };
enum { FP32, BF16, INT8 }; /* how weights are stored */

#define MOST_ROWS 8
#define MOST_SUMS 32 /* rows times vectors of a tile */

/* How many rows' sums fit the registers beside the weights and one activation. */
#define FITTING(vectors) ((REGISTERS - (vectors) - 1) / (vectors))
#define MAX_ROWS(vectors) (FITTING(vectors) > MOST_ROWS ? MOST_ROWS : FITTING(vectors) < 1 ? 1 : FITTING(vectors))

/* Load some vectors of weights. Those of 16 bits come in pairs of vectors, which share their lanes' words. */
INLINE void load_weights(const int type, const int vectors, const void *weights, long at, vec *w) {
    UNROLL for (int v = 0; v < vectors; v++) {
        const long first = at + v * WIDTH;
        if (type == FP32) w[v] = load((const float *)weights + first);
        else if (v % 2 == 0) {
            const ints words = (ints)load((const float *)((const uint16_t *)weights + first));
            w[v] = (vec)(words << 16);
            w[v + 1] = (vec)(words & (int32_t)0xffff0000);
        }
    }
}

/* sums[r][v] = (add ? sums[r][v] : 0) + sum over k of row[r][k] * panel[k][v], k in order, so that a row's result
 * does not depend on the rows beside it. Type, rows and vectors are constant: the sums stay in registers. */
INLINE void tile(const int type, const int rows, const int vectors, const float *const *row, const void *weights,
                 long panel, int depth, vec *sums, int add) {
    vec acc[MOST_SUMS], w[8];
    UNROLL for (int i = 0; i < rows * vectors; i++) acc[i] = add ? sums[i] : (vec){};
    for (int k = 0; k < depth; k++) {
        load_weights(type, vectors, weights, panel + (long)k * vectors * WIDTH, w);
        UNROLL for (int r = 0; r < rows; r++) {
            const vec a = splat(row[r][k]);
            UNROLL for (int v = 0; v < vectors; v++) acc[r * vectors + v] += a * w[v];
        }
    }
    UNROLL for (int i = 0; i < rows * vectors; i++) sums[i] = acc[i];
}

/* A row of whole numbers of 16 bits, padded with zeros to pairs, and what 1 stands for. */
typedef struct {
    float quantum;
    int16_t values[];
} short_row;

/* The same for weights of 8 bits, [panel][k / 2][vector][lane][2], and short rows. Sums of whole numbers are exact. */
INLINE void tile_int8(const int rows, const int vectors, const short_row *const *row, const int8_t *weights, long panel,
                      int depth, vec *sums, int add) {
    ints acc[MOST_SUMS], a[4];
    const int pairs = (depth + 1) / 2;
    UNROLL for (int i = 0; i < rows * vectors; i++) acc[i] = (ints){};
    const int8_t *w = weights + (depth ? panel / depth * 2 * pairs : 0);
    for (int k = 0; k < pairs; k++) {
        UNROLL for (int r = 0; r < rows; r++) {
            int32_t pair;
            memcpy(&pair, row[r]->values + 2 * k, sizeof pair);
            a[r] = splat_ints(pair);
        }
        UNROLL for (int v = 0; v < vectors; v++, w += 2 * WIDTH) {
            const ints wide = load_pairs(w);
            UNROLL for (int r = 0; r < rows; r++) acc[r * vectors + v] += multiply_pairs(wide, a[r]);
        }
    }
    UNROLL for (int i = 0; i < rows * vectors; i++) {
        const vec begun = add ? sums[i] : (vec){};
        sums[i] = depth ? begun + __builtin_convertvector(acc[i], vec) * row[i / vectors]->quantum : begun;
    }
}

typedef void tile_function(const float *const *row, const void *weights, long panel, int depth, vec *sums, int add);

#define TILE(type, rows, vectors)                                                                            \
    static __attribute__((noinline)) void tile_##type##_##rows##_##vectors(                                  \
        const float *const *row, const void *weights, long panel, int depth, vec *sums, int add) {           \
        tile(type, (rows) <= MAX_ROWS(vectors) ? (rows) : 1, vectors, row, weights, panel, depth, sums, add); \
    }

#define TILES(vectors)                                                                                         \
    TILE(FP32, 1, vectors) TILE(FP32, 2, vectors) TILE(FP32, 3, vectors) TILE(FP32, 4, vectors)                \
    TILE(FP32, 5, vectors) TILE(FP32, 6, vectors) TILE(FP32, 7, vectors) TILE(FP32, 8, vectors)                \
    static tile_function *const tiles_##vectors[] = {                                                          \
        tile_FP32_1_##vectors, tile_FP32_2_##vectors, tile_FP32_3_##vectors, tile_FP32_4_##vectors,            \
        tile_FP32_5_##vectors, tile_FP32_6_##vectors, tile_FP32_7_##vectors, tile_FP32_8_##vectors};

/* Cut `rows` into the fewest blocks of at most `most`, all of nearly the same size. */
INLINE int block_rows(int rows, int most) {
    const int blocks = (rows + most - 1) / most;
    return blocks ? (rows + blocks - 1) / blocks : 0;
}

#endif
