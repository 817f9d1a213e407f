#include "arch.h"

/* AAPCS64, 6.8.2: the first eight integers and the first eight floats in registers, all else on the stack, a word each (Linux; other systems pack them).
 * Variadic arguments go the same way here. */
void archPlaceArgs(const char *types, size_t n, size_t fixed, uint32_t *words, ArchLayout *layout)
{
    ArchLayout l = { 0, 0, 0 };

    for (size_t i = 0; i < n; i++) {
        bool isFloat = types[i] == 'f' || types[i] == 'd';
        if (isFloat && l.floats < ARCH_FLOAT_ARGS)
            words[i] = ARCH_INTEGER_ARGS + l.floats++;
        else if (!isFloat && l.integers < ARCH_INTEGER_ARGS)
            words[i] = l.integers++;
        else
            words[i] = (uint32_t)ARCH_FRAME_WORDS + l.stackWords++;
    }
    *layout = l;
}
