/* parse.h: what the scanner and the parser share. */
#ifndef PARSE_H
#define PARSE_H

#include "foreign.h"

/* The scanner's state; the parser's argument. */
typedef struct {
    File *file;
    Source *source;
    void *scanner;
    size_t position;      /* of the next token */
    size_t lastEnd;       /* of the token before */
    size_t comment;       /* where the outermost open comment began */
    unsigned depth;       /* of nested comments */
    int before;           /* the token before */
    int held;             /* a token that waits behind the one that ended the declaration before it; 0: none */
    Span heldAt;
} Reader;


#endif
