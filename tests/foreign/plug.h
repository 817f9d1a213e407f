/* C functions of plug.c. */
#include "HsFFI.h"
void plug_nap(HsInt *until);
