#include "arch.h"

/* The three ABIs put the first arguments into registers, integers and floats apart, and all else on the stack, a word each.  They differ in how many
 * registers there are, and in what becomes of floats that may not have one of their own (ARCH_FLOATS_AS_INTEGERS). */
void archPlaceArgs(const char *types, size_t n, size_t fixed, uint32_t *words, ArchLayout *layout)
{
    ArchLayout l = { 0, 0, 0 };

    for (size_t i = 0; i < n; i++) {
        bool isFloat = types[i] == 'f' || types[i] == 'd';
        bool toFloats = isFloat && (!ARCH_FLOATS_AS_INTEGERS || i < fixed);
        bool toIntegers = !isFloat || ARCH_FLOATS_AS_INTEGERS;
        if (toFloats && l.floats < ARCH_FLOAT_ARGS)
            words[i] = ARCH_INTEGER_ARGS + l.floats++;
        else if (toIntegers && l.integers < ARCH_INTEGER_ARGS)
            words[i] = l.integers++;
        else
            words[i] = (uint32_t)ARCH_FRAME_WORDS + l.stackWords++;
    }
    *layout = l;
}
