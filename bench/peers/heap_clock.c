/* The monotonic clock for heap.ml. */
#include "clock.h"
#include <caml/mlvalues.h>

intnat bench_now(value unit)
{
    (void)unit;
    return (intnat)nowNs();
}

value bench_now_byte(value unit)
{
    return Val_long(bench_now(unit));
}
