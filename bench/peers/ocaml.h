/* What differs between OCaml 4 and 5. */
#ifndef BENCH_OCAML_H
#define BENCH_OCAML_H

/* Starts what more than one domain needs; 0 or -1. Called with the runtime's lock held. OCaml 4 has nothing to start. */
int startDomains(int domains);

/* Whether OCaml made the calling thread, so that it is registered already. */
int bornInOCaml(void);

#endif
