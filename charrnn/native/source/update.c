/* What a training step does besides the recurrence: the loss, its gradient, clipping, and the weights' update. */
#include <math.h>

#include "vector.h"

/* Turn logits (rows, V) into the gradient of their mean cross-entropy with targets, in place, and return the
 * cross-entropy of every row, in nats. */
EXPORT(cross_entropy)(float *logits, const int64_t *targets, float *nats, int rows, int V, int threads) {
    const float share = 1.0f / (float)rows;
#pragma omp parallel for num_threads(threads)
    for (int row = 0; row < rows; row++) {
        float *x = logits + (long)row * V;
        float top = x[0];
        for (int j = 1; j < V; j++) top = x[j] > top ? x[j] : top;
        const float target = x[targets[row]] - top;
        vec sums = {};
        for (int j = 0; j < V; j += WIDTH) {
            const int n = V - j;
            vec e = exponential(load_part(x + j, n) - top);
            if (n < WIDTH) for (int i = n; i < WIDTH; i++) e[i] = 0.0f;
            sums += e;
            store_part(x + j, e, n);
        }
        float sum = 0.0f;
        for (int i = 0; i < WIDTH; i++) sum += sums[i];
        const float scale = share / sum;
        for (int j = 0; j < V; j++) x[j] *= scale;
        x[targets[row]] -= share;
        nats[row] = logf(sum) - target;
    }
    return 0;
}

/* Add rows (N, width) into table (V, width) by id, each thread some of the columns: no two meet. */
EXPORT(add_rows)(float *table, const float *rows, const int64_t *ids, long N, int width, int threads) {
#pragma omp parallel num_threads(threads)
    {
        const int index = omp_get_thread_num(), count = omp_get_num_threads();
        const int begin = (int)((long)width * index / count), end = (int)((long)width * (index + 1) / count);
        for (long row = 0; row < N; row++) {
            float *to = table + ids[row] * width;
            const float *from = rows + row * width;
            for (int j = begin; j < end; j++) to[j] += from[j];
        }
    }
    return 0;
}

/* The sum of the squares of several arrays, the same for any number of threads. */
EXPORT(sum_of_squares)(const float *const *arrays, const long *sizes, int count, double *total, int threads) {
    enum { PIECE = 16384 };
    double sum = 0.0;
    for (int a = 0; a < count; a++) {
        const long pieces = (sizes[a] + PIECE - 1) / PIECE;
        double partial[pieces];
#pragma omp parallel for num_threads(threads) if (pieces > 1)
        for (long p = 0; p < pieces; p++) {
            const long end = (p + 1) * PIECE < sizes[a] ? (p + 1) * PIECE : sizes[a];
            vec sums[4] = {};
            long j = p * PIECE;
            for (; j + 4 * WIDTH <= end; j += 4 * WIDTH)
                for (int v = 0; v < 4; v++) {
                    const vec x = load(arrays[a] + j + v * WIDTH);
                    sums[v] += x * x;
                }
            double piece = 0.0;
            for (; j < end; j++) piece += (double)arrays[a][j] * arrays[a][j];
            for (int v = 0; v < 4; v++) for (int i = 0; i < WIDTH; i++) piece += sums[v][i];
            partial[p] = piece;
        }
        for (long p = 0; p < pieces; p++) sum += partial[p];
    }
    *total = sum;
    return 0;
}

typedef struct {
    float rate, beta1, beta2, epsilon, decay; /* decay: decoupled, already times the rate */
    float correction1, correction2;           /* 1 - beta1^t, sqrt(1 - beta2^t) */
} adam;

/* One step of Adam with decoupled weight decay (Loshchilov & Hutter 2019) on one array. */
EXPORT(adamw)(float *weight, const float *gradient, float *mean, float *square, long size, const adam *how,
              int threads) {
    const adam a = *how;
#pragma omp parallel for num_threads(threads) if (size > 16384)
    for (long j = 0; j < size; j++) {
        const float g = gradient[j];
        const float m = mean[j] + (1.0f - a.beta1) * (g - mean[j]);
        const float v = a.beta2 * square[j] + (1.0f - a.beta2) * g * g;
        mean[j] = m;
        square[j] = v;
        weight[j] += -a.decay * weight[j] - a.rate / a.correction1 * m / (sqrtf(v) / a.correction2 + a.epsilon);
    }
    return 0;
}
