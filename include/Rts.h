/* Rts.h: the whole C interface of the runtime in one include, as generated stubs expect it. */
#ifndef RTS_H
#define RTS_H
#include "HsFFI.h"
#include "RtsAPI.h"
#include "rts/Closures.h"
#include "rts/Config.h"
#include "rts/Foreign.h"
#include "rts/Language.h"
#include "rts/Threads.h"
#include "rts/Types.h"
#include "rts/Weak.h"
#endif
