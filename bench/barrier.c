#include "barrier.h"

#define BATCH 1000          /* operations between two polls */
#define MUTVARS 100000      /* old ones, each written once after each minor collection */
#define ELEMENTS 1000000    /* of an old array, the same */
#define SMALL_ARRAY 16

CAPSTAN_CON(Box, 0, value)

static HsInt intArgument(Stack *stack, HaskellObj n)
{
    return rts_intValue(rts_force(stack, n));
}

/* Keeps the compiler from taking the stores of one round together with those of the next. */
static inline void endRound(void *object)
{
    __asm__ volatile("" : : "r"(object) : "memory");
}

static inline HsInt batchOf(HsInt left)
{
    return left < BATCH ? left : BATCH;
}

/* ---- Allocation: an object of two words ------------------------------------------------------------------------- */

CAPSTAN_IO(allocateObjects, n)
{
    HsInt count = intArgument(stack, n), done = 0;
    while (done < count) {
        HsInt batch = batchOf(count - done);
        for (HsInt i = batch; i > 0; i--) endRound(Box_new(stack->cap, CAPSTAN_UNIT));
        rts_poll(stack);
        done += batch;
    }
    return rts_int(stack, done);
}

/* The stores into the object alone. */
CAPSTAN_IO(fillObject, n)
{
    HsInt count = intArgument(stack, n), done = 0;
    struct { const StgInfoTable *info; HaskellObj value; } box, *object = &box;
    while (done < count) {
        HsInt batch = batchOf(count - done);
        for (HsInt i = batch; i > 0; i--) {
            object->info = &Box_info;
            object->value = CAPSTAN_UNIT;
            endRound(object);
        }
        rts_poll(stack);
        done += batch;
    }
    return rts_int(stack, done);
}

/* ---- The old objects --------------------------------------------------------------------------------------------- */

enum { OLD_MUTVAR, OLD_ARRAY, OLD_BOX, OLD_MUTVARS, OLD_ELEMENTS, OLD_OBJECTS };

static HaskellObj makeMutVars(Stack *stack)
{
    HaskellObj all = rts_mkArray(stack->cap, MUTVARS, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, all);
    for (size_t i = 0; i < MUTVARS; i++) {
        rts_setElem(stack->cap, all, i, rts_mkMutVar(stack->cap, CAPSTAN_UNIT));
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return all;
}

CAPSTAN_CAF(oldObjects)
{
    HaskellObj mutVars = makeMutVars(stack), objects = rts_mkArray(stack->cap, OLD_OBJECTS, CAPSTAN_UNIT);
    rts_setElem(stack->cap, objects, OLD_MUTVARS, mutVars);
    rts_setElem(stack->cap, objects, OLD_MUTVAR, rts_mkMutVar(stack->cap, CAPSTAN_UNIT));
    rts_setElem(stack->cap, objects, OLD_ARRAY, rts_mkArray(stack->cap, SMALL_ARRAY, CAPSTAN_UNIT));
    rts_setElem(stack->cap, objects, OLD_BOX, Box_new(stack->cap, CAPSTAN_UNIT));
    rts_setElem(stack->cap, objects, OLD_ELEMENTS, rts_mkArray(stack->cap, ELEMENTS, CAPSTAN_UNIT));
    return objects;
}

CAPSTAN_IO(makeOldObjects)
{
    rts_force(stack, &oldObjects_closure);
    return CAPSTAN_UNIT;
}

static HaskellObj oldObject(Stack *stack, size_t which)
{
    return rts_getElem(rts_force(stack, &oldObjects_closure), which);
}

/* ---- Stores: the same object again and again -------------------------------------------------------------------- */

typedef enum { INTO_MUTVAR, INTO_ARRAY } Into;
typedef enum { YOUNG_VALUE, OLD_VALUE, IMMEDIATE } Value;

static inline HaskellObj targetOf(Stack *stack, HaskellObj old, Into into, bool young)
{
    if (!young) return rts_getElem(old, into == INTO_ARRAY ? OLD_ARRAY : OLD_MUTVAR);
    return into == INTO_ARRAY ? rts_mkArray(stack->cap, SMALL_ARRAY, CAPSTAN_UNIT) : rts_mkMutVar(stack->cap, CAPSTAN_UNIT);
}

static inline void store(Stack *stack, Into into, HaskellObj target, HaskellObj value)
{
    if (into == INTO_ARRAY) rts_setElem(stack->cap, target, SMALL_ARRAY / 2, value);
    else rts_writeMutVar(stack->cap, target, value);
}

static void checkStored(Stack *stack, Into into, HaskellObj target, HaskellObj value)
{
    HaskellObj found = into == INTO_ARRAY ? rts_getElem(target, SMALL_ARRAY / 2) : rts_readMutVar(target);
    if (found != value) rts_raiseError(stack, "barrier: what was stored is not there");
}

/* What is young is made anew for each batch. The objects are not kept over the poll. */
static inline __attribute__((always_inline)) HaskellObj storeOften(Stack *stack, HaskellObj n, Into into, bool young, Value kind)
{
    HsInt count = intArgument(stack, n), done = 0;
    while (done < count) {
        HaskellObj old = rts_force(stack, &oldObjects_closure);
        HaskellObj target = targetOf(stack, old, into, young), value = CAPSTAN_UNIT;
        if (kind == OLD_VALUE) value = rts_getElem(old, OLD_BOX);
        if (kind == YOUNG_VALUE) value = Box_new(stack->cap, CAPSTAN_UNIT);
        HsInt batch = batchOf(count - done);
        for (HsInt i = batch; i > 0; i--) {
            store(stack, into, target, value);
            endRound(target);
        }
        checkStored(stack, into, target, value);
        rts_poll(stack);
        done += batch;
    }
    return rts_int(stack, done);
}

#define STORE_LOOP(name, into, young, kind) \
    CAPSTAN_IO(name, n) { return storeOften(stack, n, into, young, kind); }
STORE_LOOP(mutVarYoung, INTO_MUTVAR, true, YOUNG_VALUE)
STORE_LOOP(mutVarOldImmediate, INTO_MUTVAR, false, IMMEDIATE)
STORE_LOOP(mutVarOldOld, INTO_MUTVAR, false, OLD_VALUE)
STORE_LOOP(mutVarOldYoung, INTO_MUTVAR, false, YOUNG_VALUE)
STORE_LOOP(arrayYoung, INTO_ARRAY, true, YOUNG_VALUE)
STORE_LOOP(arrayOldImmediate, INTO_ARRAY, false, IMMEDIATE)
STORE_LOOP(arrayOldOld, INTO_ARRAY, false, OLD_VALUE)
STORE_LOOP(arrayOldYoung, INTO_ARRAY, false, YOUNG_VALUE)

/* A release store into a variable of C. */
CAPSTAN_IO(plainStore, n)
{
    HsInt count = intArgument(stack, n), done = 0;
    HaskellObj cell = CAPSTAN_UNIT, *field = &cell;
    while (done < count) {
        HsInt batch = batchOf(count - done);
        for (HsInt i = batch; i > 0; i--) {
            __atomic_store_n(field, CAPSTAN_UNIT, __ATOMIC_RELEASE);
            endRound(field);
        }
        rts_poll(stack);
        done += batch;
    }
    return rts_int(stack, done);
}

/* ---- Stores of a young value: each object, or element, for the first time since a minor collection ----------------- */

static void checkMost(Stack *stack, HsInt count, HsInt most)
{
    if (count > most) rts_raiseError(stack, "barrier: %ld operations are more than %ld", (long)count, (long)most);
}

/* One poll in each batch: a collection there would make the rest cheap, but nothing is allocated that could ask for one. */
static inline __attribute__((always_inline)) HaskellObj visitEach(Stack *stack, HaskellObj n, size_t which, bool write)
{
    HsInt count = intArgument(stack, n);
    checkMost(stack, count, which == OLD_MUTVARS ? MUTVARS : ELEMENTS);
    HaskellObj all = oldObject(stack, which), value = Box_new(stack->cap, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, all, value);
    for (HsInt i = 0; i < count; i++) {
        HaskellObj element = which == OLD_MUTVARS || !write ? rts_getElem(all, (size_t)i) : CAPSTAN_UNIT;
        if (which == OLD_MUTVARS && write) rts_writeMutVar(stack->cap, element, value);
        else if (which == OLD_MUTVARS) endRound(rts_readMutVar(element));
        else if (write) rts_setElem(stack->cap, all, (size_t)i, value);
        endRound(element);
        if (i % BATCH == 0) rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, count);
}

CAPSTAN_IO(writeMutVars, n) { return visitEach(stack, n, OLD_MUTVARS, true); }
CAPSTAN_IO(readMutVars, n) { return visitEach(stack, n, OLD_MUTVARS, false); }
CAPSTAN_IO(writeElements, n) { return visitEach(stack, n, OLD_ELEMENTS, true); }
CAPSTAN_IO(readElements, n) { return visitEach(stack, n, OLD_ELEMENTS, false); }

const Operation operations[] = {
    {"B8a", "object", &allocateObjects_closure, &fillObject_closure, 0},
    {"B8w", "mutvar_young", &mutVarYoung_closure, &plainStore_closure, 0},
    {"B8w", "mutvar_old_imm", &mutVarOldImmediate_closure, &plainStore_closure, 0},
    {"B8w", "mutvar_old_old", &mutVarOldOld_closure, &plainStore_closure, 0},
    {"B8w", "mutvar_old_young", &mutVarOldYoung_closure, &plainStore_closure, 0},
    {"B8w", "mutvar_first", &writeMutVars_closure, &readMutVars_closure, MUTVARS},
    {"B8w", "array_young", &arrayYoung_closure, &plainStore_closure, 0},
    {"B8w", "array_old_imm", &arrayOldImmediate_closure, &plainStore_closure, 0},
    {"B8w", "array_old_old", &arrayOldOld_closure, &plainStore_closure, 0},
    {"B8w", "array_old_young", &arrayOldYoung_closure, &plainStore_closure, 0},
    {"B8w", "array_first", &writeElements_closure, &readElements_closure, ELEMENTS},
    {NULL, NULL, NULL, NULL, 0},
};
