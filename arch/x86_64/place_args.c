#include "arch.h"

/* System V ABI, 3.2.3: the first six integers and the first eight floats in registers, all else on the stack, a word each.  Variadic arguments go the same
 * way; that their count of floats is in al is archCall's business. */
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
