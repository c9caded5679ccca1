/* What chance would give: correlations of all neurons with labels that were swapped between units of text. */
#include <math.h>
#include <stdlib.h>

#include "vector.h"

#define LANES (4 * WIDTH) /* neurons at a time: their sums over all pairs of units fit near memory */

/* Sums over the positions of every pair of units, the activations of unit i with the labels of unit j. */
typedef struct {
    int U, N, S;           /* units, neurons, orders */
    int whole;             /* every position is scored: a and aa are then sums over all units, (N) */
    const int32_t *orders; /* the unit whose labels each unit gets, (S, U) */
    const float *ay;       /* activation times label, (U, U, N) */
    const float *a, *aa;   /* activation and its square where the label is scored, (U, U, N) */
    double count, y, yy;   /* scored positions of all units, sum and sum of squares of their labels */
    double epsilon;        /* a smaller scale per position is that of something that does not vary */
} pairs;

/* Copy some neurons' sums to (U U, LANES). */
static void gather(const pairs *p, const float *from, int first, float *table) {
    const int n = p->N - first < LANES ? p->N - first : LANES;
    const long rows = (long)p->U * p->U;
    for (long row = 0; row < rows; row++, table += LANES) {
        memcpy(table, from + row * p->N + first, (size_t)n * sizeof(float));
        if (n < LANES) memset(table + n, 0, (size_t)(LANES - n) * sizeof(float));
    }
}

/* Add up what an order pairs, unit after unit. */
INLINE void paired(const float *table, const int32_t *order, int U, float *sums) {
    vec acc[4] = {};
    for (int i = 0; i < U; i++) {
        const float *row = table + ((long)i * U + order[i]) * LANES;
        UNROLL for (int v = 0; v < 4; v++) acc[v] += load(row + v * WIDTH);
    }
    UNROLL for (int v = 0; v < 4; v++) store(sums + v * WIDTH, acc[v]);
}

/* |r| of some neurons in double precision, 0 where one of both does not vary. */
static void correlate(const pairs *p, int first, const float *ay, const float *a, const float *aa, double *r) {
    const int n = p->N - first < LANES ? p->N - first : LANES;
    const double count = p->count > 1.0 ? p->count : 1.0, spread = p->yy - p->y * p->y / count;
    for (int k = 0; k < n; k++) {
        const double covariance = (double)ay[k] - (double)a[k] * p->y / count;
        const double square = ((double)aa[k] - (double)a[k] * (double)a[k] / count) * spread;
        const double scale = sqrt(square > 0.0 ? square : 0.0);
        r[k] = scale > p->epsilon * count ? fabs(covariance) / scale : 0.0;
    }
}

/* The largest |r| of LANES neurons under every order, where it exceeds what `largest` (S) has; `own` (S) gets that of
 * the chosen neuron if it is one of them. Tables have room for three times (U U, LANES). */
static void scan(const pairs *p, int first, int chosen, float *tables, double *largest, double *own) {
    const long size = (long)p->U * p->U * LANES;
    const int n = p->N - first < LANES ? p->N - first : LANES;
    float sums[3][LANES] = {};
    double r[LANES];
    gather(p, p->ay, first, tables);
    if (!p->whole) {
        gather(p, p->a, first, tables + size);
        gather(p, p->aa, first, tables + 2 * size);
    } else {
        memcpy(sums[1], p->a + first, (size_t)n * sizeof(float));
        memcpy(sums[2], p->aa + first, (size_t)n * sizeof(float));
    }
    for (int s = 0; s < p->S; s++) {
        const int32_t *order = p->orders + (long)s * p->U;
        for (int part = 0; part < (p->whole ? 1 : 3); part++) paired(tables + part * size, order, p->U, sums[part]);
        correlate(p, first, sums[0], sums[1], sums[2], r);
        for (int k = 0; k < n; k++) largest[s] = r[k] > largest[s] ? r[k] : largest[s];
        if (chosen >= first && chosen < first + n) own[s] = r[chosen - first];
    }
}

/* The largest |r| of any neuron under every order, and that of the chosen one, both (S). Returns 1 without memory. */
EXPORT(largest_correlations)(const pairs *p, int chosen, double *largest, double *own, int threads) {
    int failed = 0;
    memset(largest, 0, (size_t)p->S * sizeof(double));
    memset(own, 0, (size_t)p->S * sizeof(double));
#pragma omp parallel num_threads(threads)
    {
        float *tables = malloc(3 * (size_t)p->U * p->U * LANES * sizeof(float));
        double *mine = calloc((size_t)p->S, sizeof(double));
        const int index = omp_get_thread_num(), step = omp_get_num_threads() * LANES;
        if (!tables || !mine) {
#pragma omp atomic write
            failed = 1;
        } else {
            for (int first = index * LANES; first < p->N; first += step) scan(p, first, chosen, tables, mine, own);
#pragma omp critical
            for (int s = 0; s < p->S; s++) largest[s] = mine[s] > largest[s] ? mine[s] : largest[s];
        }
        free(tables);
        free(mine);
    }
    return failed;
}
