/*
 * For tests of what a process does that may end, or is changed for good. Needs cmocka.h before it.
 */
#ifndef CAPSTAN_TESTS_CHILD_H
#define CAPSTAN_TESTS_CHILD_H

#include <sys/wait.h>
#include <unistd.h>

/* The exit status of a child that does f(n), with which it ends. */
static inline int statusOfChild(int (*f)(size_t n), size_t n)
{
    int status = -1;
    pid_t child = fork();
    if (child == 0) _exit(f(n));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#endif
