/* stable.h: in a forked child the lock of the stable pointer table is nobody's. */
#ifndef STABLE_H
#define STABLE_H

void forgetStableLock(void);

#endif
