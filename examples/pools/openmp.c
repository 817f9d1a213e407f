/* openmp: a parallel loop whose threads call in.
 *
 *     openmp [ITERATIONS]
 */
#include "bank.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    long iterations = argc > 1 ? strtol(argv[1], NULL, 10) : 100000;
    HsInt done = 0, numbers = 0, failed = 0;
    if (iterations < 1 || iterations > 100000000) {
        fprintf(stderr, "usage: openmp [ITERATIONS]\n");
        return 2;
    }
    if (!openBank("openmp")) return 1;
#pragma omp parallel for num_threads(8) reduction(+ : done, numbers, failed) schedule(dynamic, 16)
    for (long i = 1; i <= iterations; i++) {
        HsInt number = work((unsigned)i);
        failed += number < 0;
        done += number > 0;
        numbers += number > 0 ? number : 0;
    }
    bool right = report("openmp", done, numbers) && failed == 0;
    closeBank();
    return right ? 0 : 1;
}
