/* Everything that is compiled once per instruction set. */
#include "recurrence.c"
#include "update.c"
#include "sampler.c"
#include "statistics.c"
#include "memory.c"
