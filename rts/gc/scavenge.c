/* Visiting an object's managed words, for all but the copying loops, which have it inlined. */
#include "gc/fields.h"

static void visitOne(Visitor *v, HaskellObj *slot) { v->visit(v, slot); }

void scavengeObject(StgClosure *obj, Visitor *v) { eachField(obj, visitOne, v); }
