/* How fast memory can be read: the limit that samplers, which read all weights for every character, stand beside. */
#include "vector.h"

/* Add up all words of a buffer some times, each thread those of its part. Bytes are a multiple of 512. The processor
 * sees what comes next: asked to prefetch 1 to 8 KB ahead it was a quarter slower out of the third-level cache. */
EXPORT(read_memory)(const char *buffer, long bytes, int times, uint32_t *total, int threads) {
    enum { VECTORS = 8, BLOCK = 4 * WIDTH * VECTORS };
    const long blocks = bytes / BLOCK;
    uint32_t all = 0;
#pragma omp parallel num_threads(threads) reduction(+ : all)
    {
        const int index = omp_get_thread_num(), count = omp_get_num_threads();
        const char *begin = buffer + blocks * index / count * BLOCK, *end = buffer + blocks * (index + 1) / count * BLOCK;
        uints sums[VECTORS] = {};
        for (int time = 0; time < times; time++) {
            __asm__ volatile("" ::: "memory"); /* or it might be read once, and multiplied */
            for (const char *p = begin; p < end; p += BLOCK)
                UNROLL for (int v = 0; v < VECTORS; v++) sums[v] += (uints)load((const float *)p + WIDTH * v);
        }
        for (int v = 0; v < VECTORS; v++)
            for (int i = 0; i < WIDTH; i++) all += sums[v][i];
    }
    *total = all;
    return 0;
}
