#include "ocaml.h"

int startDomains(int domains)
{
    (void)domains;
    return 0;
}

int bornInOCaml(void)
{
    return 0;
}
