/* The inner product of every kernel: some rows of activations times one panel of packed weights. */
#ifndef CHARRNN_TILE_H
#define CHARRNN_TILE_H

#include "vector.h"

#define MOST_VECTORS 4 /* in a panel */

/* acc[r][v] += sum over k of rows[r][k] * panel[k][v], k in order: a row's result does not depend on the
 * rows that are computed beside it. rows and vectors must be constant and
 * acc of constant size, or the compiler keeps the sums in memory. */
INLINE void tile(const int rows, const int vectors, const float *const *row, const float *panel, int depth,
                 vec *acc) {
    for (int k = 0; k < depth; k++) {
        vec w[MOST_VECTORS];
        UNROLL for (int v = 0; v < vectors; v++) w[v] = load(panel + ((long)k * vectors + v) * WIDTH);
        UNROLL for (int r = 0; r < rows; r++) {
            const vec a = splat(row[r][k]);
            UNROLL for (int v = 0; v < vectors; v++) acc[r * vectors + v] += a * w[v];
        }
    }
}

/* How many rows of accumulators fit beside the weights and one activation. */
#define MOST_ROWS 8
#define FITTING_ROWS(vectors) ((REGISTERS - (vectors) - 1) / (vectors))
#define MAX_ROWS(vectors) (FITTING_ROWS(vectors) < MOST_ROWS ? FITTING_ROWS(vectors) : MOST_ROWS)

/* Cut `rows` into the fewest blocks of at most `most`, all of nearly the same size. */
INLINE int block_rows(int rows, int most) {
    const int blocks = (rows + most - 1) / most;
    return (rows + blocks - 1) / blocks;
}

/* Call function(n, ...) with a constant n, so that its loops unroll into registers. */
#define CONSTANT_ROWS(n, most, function, ...)                              \
    switch (n) {                                                           \
        case 1: function(1, __VA_ARGS__); break;                           \
        case 2: if ((most) >= 2) function(2, __VA_ARGS__); break;          \
        case 3: if ((most) >= 3) function(3, __VA_ARGS__); break;          \
        case 4: if ((most) >= 4) function(4, __VA_ARGS__); break;          \
        case 5: if ((most) >= 5) function(5, __VA_ARGS__); break;          \
        case 6: if ((most) >= 6) function(6, __VA_ARGS__); break;          \
        case 7: if ((most) >= 7) function(7, __VA_ARGS__); break;          \
        default: if ((most) >= 8) function(8, __VA_ARGS__);                \
    }

#endif
