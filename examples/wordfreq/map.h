/* map.h: the managed side: a map from words to counts on the shared heap, and two actions on it.
 *
 * The map is an array of MutVars.  Each holds a binary trie over the bits of the words' hashes that never changes once it is
 * in place: who counts a word builds the new path from the root to it and puts the new root in the old one's place by
 * compare-and-swap, or tries again.  Readers need no lock: a root that they have read is a snapshot.
 *
 * Nothing between reading a root and swapping it is a safepoint, so nothing moves there and plain variables will do. */
#ifndef WORDFREQ_MAP_H
#define WORDFREQ_MAP_H

#include "rts/Managed.h"

/* An action on a byte array of text: counts every word in it.  Gives how many there were. */
CAPSTAN_EXTERN(countWords);

/* An action on an Int n: gives a Summary with the n most frequent words, all of them if n is negative. */
CAPSTAN_EXTERN(summarise);

/* Its result, and what its array of words consists of: to be read by rts_getField. */
enum { SUMMARY_WORDS, SUMMARY_DISTINCT, SUMMARY_TOP };
enum { ENTRY_HASH, ENTRY_WORD, ENTRY_COUNT };

/* How many bits a hash has: 0 to 62.  Set before the first call; few of them make words collide. */
void setHashBits(unsigned bits);

#endif
