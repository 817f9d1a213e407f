#include "next.h"

void *nextAddress(void *address)
{
    return (char *)address + 1;
}

int64_t nextNumber(int64_t n)
{
    return n + 1;
}
