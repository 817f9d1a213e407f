/* Stg.h: what the text of generated stubs needs beyond Rts.h.  Everything lives in rts/Types.h; this name exists for the stubs. */
#ifndef STG_H
#define STG_H
#include "rts/Types.h"
#endif
