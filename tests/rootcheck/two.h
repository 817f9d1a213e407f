#include <Rts.h>

struct Sum { HaskellObj x, y; };
HsInt forced(Stack *stack, HaskellObj x);
HsInt read(HaskellObj x);
HsInt sumOf(Stack *stack, struct Sum *sum);
HsInt unknown(Stack *stack);
HsInt promised(Stack *stack) CAPSTAN_NOSAFEPOINT;
