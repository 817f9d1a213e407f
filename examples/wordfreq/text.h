/* text.h: the files, and how they fall into chunks that threads can read independently of each other.
 *
 * A word belongs to the chunk in which it begins: a chunk's text leaves out the rest of a word that began before it, and
 * goes on past its end until its last word is complete.  So no word is cut or counted twice, whatever the sizes, and nobody has
 * to read what comes before. */
#ifndef WORDFREQ_TEXT_H
#define WORDFREQ_TEXT_H

#include "options.h"

#define PROBLEM_SIZE 512  /* bytes of a message that says what went wrong */

static inline bool isLetter(unsigned char c) { return (unsigned char)((c | 0x20) - 'a') < 26; }

typedef struct {
    const char *name;
    size_t size;
    char *content;  /* of what cannot be read at any place, like a pipe; else NULL */
} File;

typedef struct {
    size_t file, offset, length;
    bool external;  /* hand the text over where it lies, not as a copy */
} Chunk;

/* Ownership: made by one thread, read by all. */
typedef struct {
    File *files;
    Chunk *chunks;
    size_t fileCount, chunkCount;
    uint64_t bytes, seed, repeat;
    struct dirent **entries;  /* of the default folder, if that was read */
    size_t entryCount;
} Text;

/* Where a chunk's text lies: [begin, begin + length) of a block that malloc gave and that grows. */
typedef struct {
    char *block;
    size_t capacity, begin, length;
} Buffer;

/* Look at every file and lay out the chunks.  false: problem says which file, and why.  freeText in any case. */
bool openText(Text *text, const Options *options, char *problem);
void freeText(Text *text);

/* How many chunks there are to read, repetitions included. */
uint64_t countChunks(const Text *text);
/* The chunk to read as the turn-th.  Each pass through the text has an order of its own if there is a seed. */
const Chunk *chunkOfTurn(const Text *text, uint64_t turn);

/* Read a chunk's text.  It may be empty.  false: problem says why. */
bool readChunk(const Text *text, const Chunk *chunk, Buffer *buffer, char *problem);

#endif
