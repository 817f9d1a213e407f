"""What the checker knows about a variable at a place in the program: Value, and State for all of them.

A place is (base, path).  The base is ('v', id) for a local variable, ('p', id) for what the parameter points to that the
function was called with, ('m', id) for memory that this call of malloc gave, ('t', id) for a compound literal,
('g', name) for a variable with static storage, and ('f', names) for one of these functions.  The path says which field or
element: names, numbers, '*' for an element that is not known, ('+', i) for the i-th thing behind the one that a pointer
points to, and '->' for what the pointer at that place of the caller's memory points to.
"""
from collections import namedtuple

HEAP = 1      # may be the address of an object: a root keeps it right
INNER = 2     # an address inside an object, or one that no root can name: no root helps
CAP = 4       # a capability, or the record of a thread
UNSET = 8     # was never written
STILL = 16    # does not move: an immediate, a static closure, NULL
PINNED = 32   # the object does not move while it lives
GIVEN = 64    # lies in memory of the caller's, who may have rooted it
FIRST = 128   # and has not been written since the function began

Value = namedtuple('Value', 'flags stale addr parts')
# Why a value is no good any more.  order: only if the compiler evaluates the operands in that order.
Safepoint = namedtuple('Safepoint', 'name pos order')
# A link of the root chain.  places: None if they are not known.  sure: is it pushed on each way here?
Link = namedtuple('Link', 'place places pos sure')

NOTHING = Value(0, None, None, None)
FIXED = Value(STILL, None, None, None)


def fresh(flags):
    return Value(flags, None, None, None)


def pointer(place):
    return Value(0, None, place, None)


def moves(value):
    return bool(value.flags & (HEAP | INNER | CAP)) and not value.flags & (STILL | UNSET)


def join(a, b):
    """What holds if one of the two does.  A variable set on one way only counts as set: compilers warn about the other."""
    if a is b or a == b:
        return a
    if a.flags & UNSET:
        return b
    if b.flags & UNSET:
        return a
    both = STILL | PINNED
    flags = ((a.flags | b.flags) & ~both) | (a.flags & b.flags & both)
    if not flags & HEAP:
        flags &= ~PINNED
    elif a.flags & STILL or b.flags & STILL:
        flags |= (a.flags | b.flags) & PINNED   # an immediate beside it changes nothing
    return Value(flags, a.stale or b.stale, joinAddresses(a.addr, b.addr), None)


def joinAddresses(a, b):
    if a == b:
        return a
    if a is not None and b is not None and a[0][0] == b[0][0] == 'f':
        return (('f', tuple(sorted(set(a[0][1] + b[0][1])))), ())   # one of several functions
    return None


def isIndex(step):
    return isinstance(step, int) or step == '*'


def offset(place, i):
    """The place i elements behind this one."""
    base, path = place
    last = path[-1] if path else None
    if isIndex(last):
        return (base, path[:-1] + ('*' if '*' in (last, i) else last + i,))
    if isinstance(last, tuple):
        i = '*' if '*' in (last[1], i) else last[1] + i
        path = path[:-1]
    return (base, path) if i == 0 else (base, path + (('+', i),))


def alike(a, b):
    """May two paths be the same place?"""
    if len(a) != len(b):
        return False
    for x, y in zip(a, b):
        if isinstance(x, tuple) and isinstance(y, tuple):
            x, y = x[1], y[1]
        if x != y and not (isIndex(x) and isIndex(y) and '*' in (x, y)):
            return False
    return True


def vague(path):
    return any(step == '*' or step == ('+', '*') for step in path)


class State:
    """places: what is known; roots: the links pushed, the innermost last; passed: a safepoint that may have happened since
    the function began; locks: mutexes held, with the place where they were taken."""

    __slots__ = ('places', 'roots', 'passed', 'locks')

    def __init__(self):
        self.places, self.roots, self.passed, self.locks = {}, (), None, {}

    def copy(self):
        other = State()
        other.places, other.roots, other.passed = dict(self.places), self.roots, self.passed
        other.locks = dict(self.locks)
        return other

    def __eq__(self, other):
        return (other is not None and self.places == other.places and self.roots == other.roots and
                self.passed == other.passed and self.locks == other.locks)

    def matching(self, place):
        base, path = place
        if place in self.places and not vague(path):
            return [place]
        return [p for p in self.places if p[0] == base and alike(p[1], path)]

    def below(self, place):
        """The places that are known in what begins here."""
        base, path = place
        n = len(path)
        return [p for p in self.places if p[0] == base and alike(p[1][:n], path)]

    def lookup(self, place):
        found = None
        for p in self.matching(place):
            value = self.places[p]
            found = value if found is None else join(found, value)
        return found

    def store(self, place, value):
        if not vague(place[1]):
            self.places[place] = value
            return
        for p in self.matching(place):
            self.places[p] = join(self.places[p], value)
        self.places.setdefault(place, value)

    def isRooted(self, place):
        for link in self.roots:
            if link.places is None or place in link.places:
                return True
            if any(p[0] == place[0] and alike(p[1], place[1]) for p in link.places):
                return True
        return False

    def safepoint(self, why, rootsHelp=True):
        """Everything that may move and is not rooted is stale."""
        self.passed = self.passed or why
        for place, value in self.places.items():
            if value.stale or not moves(value):
                continue
            if rootsHelp and not value.flags & (INNER | CAP) and self.isRooted(place):
                continue
            self.places[place] = value._replace(stale=why)


def joinRoots(a, b, report):
    """Links that are pushed on one way and not on the other are told about once, and kept as unsure."""
    if a == b:
        return a
    common = []
    for x, y in zip(a, b):
        if x.place != y.place:
            break
        common.append(x if not x.sure else y)
    rest = (a if len(a) > len(b) else b)[len(common):]
    for link in rest:
        if link.sure:
            report(link)
    return tuple(common) + tuple(link._replace(sure=False) for link in rest)


def joinStates(a, b, report):
    """A new state; None stands for a place that is never reached."""
    if a is None or b is None:
        return (b if a is None else a) and (b if a is None else a).copy()
    result = a.copy()
    for place, value in b.places.items():
        mine = a.places.get(place)
        result.places[place] = value if mine is None else join(mine, value)
    result.roots = joinRoots(a.roots, b.roots, report)
    result.passed = a.passed or b.passed
    result.locks = {**b.locks, **a.locks}
    return result
