/* What the loader asks before it calls anything that only some processors can run. */

__attribute__((visibility("default"))) int charrnn_version(void) { return 3; }

/* The best of the compiled variants that this processor can run: 2 avx512, 1 avx2, 0 baseline. */
__attribute__((visibility("default"))) int charrnn_best(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
    return 0;
}
