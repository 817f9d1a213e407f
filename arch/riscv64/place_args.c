#include "arch.h"

/* LP64D: floats in fa0-fa7, then, as integers are from the first, in a0-a7, then on the stack, a word each.  Variadic ones count as integers. */
void archPlaceArgs(const char *types, size_t n, size_t fixed, uint32_t *words, ArchLayout *layout)
{
    ArchLayout l = { 0, 0, 0 };

    for (size_t i = 0; i < n; i++) {
        bool isFloat = (types[i] == 'f' || types[i] == 'd') && i < fixed;
        if (isFloat && l.floats < ARCH_FLOAT_ARGS)
            words[i] = ARCH_INTEGER_ARGS + l.floats++;
        else if (l.integers < ARCH_INTEGER_ARGS)
            words[i] = l.integers++;
        else
            words[i] = (uint32_t)ARCH_FRAME_WORDS + l.stackWords++;
    }
    *layout = l;
}
