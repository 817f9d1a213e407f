"""Calls: which are safepoints, what they do to the variables whose addresses they get, and the ones that mean something."""
import os

from clangtree import literal, position
from typenames import DEEP, ofNode, parameters
from values import (CAP, FIRST, FIXED, GIVEN, HEAP, INNER, NOTHING, PINNED, STILL, UNSET, Link, Safepoint, fresh, offset,
                    pointer)

LOCKS = ('pthread_mutex_lock', 'pthread_rwlock_rdlock', 'pthread_rwlock_wrlock', 'pthread_spin_lock', 'mtx_lock')
UNLOCKS = ('pthread_mutex_unlock', 'pthread_rwlock_unlock', 'pthread_spin_unlock', 'mtx_unlock')
IMMEDIATE = ('rts_mkBool', 'rts_mkChar', 'rts_mkInt8', 'rts_mkInt16', 'rts_mkInt32', 'rts_mkWord8', 'rts_mkWord16',
             'rts_mkWord32')
INTEGERS = ('rts_int', 'rts_mkInt', 'rts_mkInt64')
RAW = ('rts_allocate', 'rts_allocateSlow')
SAFE_CALLS = ('rts_safeCall', 'rts_interruptibleCall')


class Calls:
    def calleeName(self, node):
        """The name of the function that is called, None if it is called through a pointer."""
        return self.program.calleeName(node)

    def valueCallExpr(self, node):
        name = self.calleeName(node)
        callee, arguments = node['inner'][0], node['inner'][1:]
        if name == 'rts_tailCallN':
            self.checkTailCall(node)
        if name == '__errno_location':
            self.threadLocal('errno', position(node))
        values = self.group(arguments if name else [callee] + arguments)
        if self.st is None:
            return NOTHING
        values = values if name else values[1:]
        special = getattr(self, 'call_' + name, None) if name else None
        if special:
            return special(node, arguments, values)
        if name in LOCKS + UNLOCKS:
            self.lock(name, node, arguments, values)
        self.noteArguments(name, values)
        self.checkStructs(node, name, arguments, values)
        self.effects(node, name, arguments, values)
        if not self.program.returns(self.unit, node):
            self.st = None
            return NOTHING
        return self.result(node, name, arguments, values)

    def noteArguments(self, name, values):
        """What a function of this file gets: if it never moves, nothing has to be rooted there."""
        callee = self.program.find(self.unit, name) if name else None
        for i, value in enumerate(values if callee is not None else ()):
            key = (callee, i)
            still = value.flags & STILL
            self.passed[key] = self.passed.get(key, STILL) & still

    # ---- What a call gives ---------------------------------------------------------------------------------------------

    def result(self, node, name, arguments, values):
        ofType = ofNode(node)
        if name in ('rts_mkBytesPinned', 'rts_mkBytesExternal'):
            return fresh(HEAP | PINNED)
        if name in IMMEDIATE or name in INTEGERS and self.isSmall(arguments[1]):
            return FIXED
        if name == 'rts_bytes':
            return FIXED if values[0].flags & (PINNED | STILL) else fresh(INNER)
        if name in RAW:
            return fresh(INNER)
        if name == 'deRefStablePtr':
            return fresh(HEAP)
        if name in ('malloc', 'calloc', 'aligned_alloc'):
            return pointer((('m', node['id']), ()))
        gives = self.program.gives(self.unit, name)
        value = self.byType(ofType)
        if gives is None or gives & CAP:
            return value
        if value.flags & HEAP and not gives & (HEAP | STILL):
            return value
        return fresh(gives) if gives & (HEAP | INNER | STILL) else value

    def isSmall(self, node):
        """Is it a number that needs no object?"""
        number = literal(node)
        return number is not None and -2 ** 62 <= number < 2 ** 62

    # ---- What a call does -----------------------------------------------------------------------------------------------

    def checkStructs(self, node, name, arguments, values):
        callee = self.program.find(self.unit, name) if name else None
        for i, (argument, value) in enumerate(zip(arguments, values)):
            for path, part in (value.parts or {}).items():
                if part.stale and (callee is None or (i, path) in callee.summary.reads):
                    self.useStale((('t', argument['id']), path), part, position(argument),
                                  'a field of %s' % self.describe(argument))

    def effects(self, node, name, arguments, values):
        why = self.program.isSafepoint(self.unit, node)
        known = self.knownEffects(name, arguments, values)
        for callee, pairs in known:
            for i, value in pairs.items():
                self.checkReads(node, callee, i, value)
        self.checkConstants(node, arguments, values)
        if why:
            kept = self.kept(name, values)
            self.passSafepoint(Safepoint(why, position(node), False), position(node), name)
            for place, value in kept:
                self.st.store(place, value)
        self.writeBack(node, name, arguments, values, known, why)

    def passSafepoint(self, why, pos, name):
        if self.managed:
            for lock, taken in self.st.locks.items():
                self.report('lock', pos, 'the lock taken at line %d is held across the safepoint %s: the thread may go on on another '
                            'OS thread' % (taken[1], why.name), lock)
        self.st.safepoint(why, name != 'rts_unlock')

    def knownEffects(self, name, arguments, values):
        """Functions of the program that run in this call, with which of their parameters gets which of our addresses: the one
        called, and those passed to it, which get the argument after them."""
        found = []
        callee = self.program.find(self.unit, name) if name else None
        if callee is not None:
            found.append((callee, {i: v for i, v in enumerate(values) if self.isAddress(v)}))
        for i, value in enumerate(values[:-1]):
            if value.addr is None or value.addr[0][0] != 'f' or not self.isAddress(values[i + 1]):
                continue
            passed = [self.program.find(self.unit, each) for each in value.addr[0][1]]
            for function in passed if all(f is not None and f.contextParameter is not None for f in passed) else ():
                if name in SAFE_CALLS:
                    self.checkSafeCall(arguments[i], function)
                found.append((function, {function.contextParameter: values[i + 1]}))
        return found

    def kept(self, name, values):
        """Variables of ours that the callee roots itself."""
        callee = self.program.find(self.unit, name) if name else None
        found = []
        for i, path in (callee.summary.keeps or ()) if callee is not None else ():
            if i < len(values) and self.isAddress(values[i]):
                place = self.follow(values[i].addr, path)
                value = self.st.lookup(place) if place else None
                if value is None and place and place[0][0] == 'p' and self.st.passed is None:
                    value = fresh(HEAP | GIVEN | FIRST)
                if value is not None and not value.flags & INNER:
                    found.append((place, value))
        return found

    def isAddress(self, value):
        return value.addr is not None and value.addr[0][0] in 'vpmt'

    def follow(self, addr, path):
        """Our name for a place that a callee knows by its path from what a parameter points to, or None."""
        place = addr
        for step in path:
            if step == '->':
                value = self.st.lookup(place)
                if value is not None and self.isAddress(value):
                    place = value.addr
                elif value is None and place[0][0] == 'p' and len(place[1]) < DEEP:
                    place = (place[0], place[1] + ('->',))
                else:
                    return None
            else:
                place = offset(place, step[1]) if isinstance(step, tuple) else (place[0], place[1] + (step,))
        return place

    def checkSafeCall(self, argument, function):
        for key in function.summary.reads:
            self.report('safecall', position(argument), '%s reads the managed value %s while the capability is given up: hand it C data' %
                        (function.name, function.summary.reads[key]), (position(argument), key))

    def checkReads(self, node, callee, i, address):
        """The callee reads memory of ours: it must not be stale before the call, and must be rooted if it reads it later."""
        summary = callee.summary
        for key in summary.reads:
            if key[0] == i:
                place = self.follow(address.addr, key[1])
                value = self.st.lookup(place) if place else None
                if value is not None:
                    self.noteRead(place, value)
                    if value.stale:
                        self.useStale(place, value, position(node))
        for key, why in summary.requires.items():
            if key[0] == i:
                self.checkRooted(node, callee, self.follow(address.addr, key[1]), why, key in summary.writes)

    def checkRooted(self, node, callee, place, why, written):
        value = self.st.lookup(place) if place else None
        if value is None and place and place[0][0] == 'p':
            value = fresh(HEAP)
        if value is None or value.stale or self.st.isRooted(place):
            return
        if not written and (not value.flags & HEAP or value.flags & (STILL | UNSET)):
            return
        if place[0][0] == 'p':
            key = (self.numbers.get(place[0][1], -1), place[1])
            self.summary.requires.setdefault(key, why)
            return
        self.report('unrooted', position(node), "'%s' is not rooted here, and %s reads it after the safepoint %s (%s line %d)" %
                    (self.show(place), callee.name, why.name, os.path.basename(why.pos[0]), why.pos[1]), (place, why))

    def checkConstants(self, node, arguments, values):
        """What a callee gets as const HaskellObj * it reads, and reads first."""
        for argument, value, ofType in zip(arguments, values, self.parameterTypes(node)):
            if not self.isAddress(value) or not ofType.startswith('const ') or not self.types.isObject(
                    (self.types.pointee(ofType) or '')):
                continue
            base, path = value.addr
            array = (base, path[:-1]) if path and path[-1] == 0 else value.addr
            for place in self.st.below(array):
                held = self.st.places[place]
                if held.stale and held.flags & (HEAP | INNER):
                    self.useStale(place, held, position(argument))

    def parameterTypes(self, node):
        return parameters(node['inner'][0].get('type', {}).get('qualType', ''))

    def writeBack(self, node, name, arguments, values, known, why):
        """What is written through the addresses that the call got is fresh afterwards."""
        covered = set()
        for callee, pairs in known:
            for i, value in pairs.items():
                covered.add(value.addr)
                for (number, path), kind in callee.summary.writes.items():
                    if number == i:
                        self.freshen(self.follow(value.addr, path), kind)
        types = self.parameterTypes(node)
        for i, (argument, value) in enumerate(zip(arguments, values)):
            if value.addr in covered or not self.isAddress(value):
                continue
            ofType = types[i] if i < len(types) else ofNode(argument)
            if not ofType.startswith('const ') and name not in ('free',):
                self.written(value.addr, ofType, why)
        for value in values:
            if self.isAddress(value):
                self.capabilitiesBehind(value.addr)

    def capabilitiesBehind(self, addr):
        """A structure that says where the capability is kept: it is kept right there."""
        for place in self.st.below(addr):
            target = self.st.places[place].addr
            if target is not None and target[0][0] in 'vp':
                for below in self.st.below(target):
                    if self.st.places[below].flags & CAP:
                        self.freshen(below, CAP)

    def written(self, addr, ofType, why):
        """Nothing is known of the function that got the address.  A variable it will have written.  Of a structure, what was
        set before is what it reads, and what was not set is what it writes."""
        base, path = addr
        whole = (base, path[:-1]) if path and path[-1] == 0 else addr
        places = self.st.below(whole)
        to = self.types.pointee(ofType)
        isVariable = to and (self.types.isObject(to) or self.types.isCapability(to))
        for place in places:
            value = self.st.places[place]
            if isVariable or not why or not value.flags & HEAP or value.flags & UNSET:
                self.freshen(place)
        if not isVariable and why:
            return
        if not places and to and self.types.leaves(to):
            for below, leaf in self.types.leaves(to):
                self.assign((base, path + below), leaf, self.byType(leaf))
        elif base[0] == 'p' and to and self.types.leaves(to):
            for below, leaf in self.types.leaves(to):
                self.noteWrite((base, path + below), self.byType(leaf).flags)

    def freshen(self, place, kind=0):
        if place is None:
            return
        kind = kind or self.kinds.get(place, 0)
        self.noteWrite(place, kind)
        old = self.st.lookup(place)
        if old is None and not kind or old is not None and old.addr is not None:
            return
        self.st.store(place, self.placed(fresh(kind or old.flags & (HEAP | INNER | CAP)), place))
        for other in self.st.matching(place):
            self.st.places[other] = self.st.places[other]._replace(stale=None)

    # ---- Calls that mean something ---------------------------------------------------------------------------------------

    def call_capstanPushRoots(self, node, arguments, values):
        link, slots = values[1].addr, values[3].addr
        places = None
        if slots is not None:
            base, path = slots[0], slots[1][:-1] if slots[1] and slots[1][-1] == 0 else slots[1]
            targets = [self.st.places[p] for p in self.st.below((base, path))]
            if targets and all(v.addr is not None for v in targets):
                places = frozenset(v.addr for v in targets)
        for place in places or ():
            self.checkNewRoot(node, place)
        if link is not None:
            self.st.roots += (Link(link, places, position(node), True),)
        return NOTHING

    call_capstanPushRootsOfCap = call_capstanPushRoots

    def checkNewRoot(self, node, place):
        value = self.st.lookup(place)
        if value is None and place[0][0] == 'p':
            value = self.known(place, 'HaskellObj')
        if value is None:
            return
        if place[0][0] == 'p':
            self.noteRead(place, value)
        if value.flags & UNSET:
            self.report('roots', position(node), "'%s' is rooted and has no value: initialise it" % self.show(place), place)
        elif value.stale and not (value.flags & GIVEN and place[0][0] == 'p'):
            self.report('unrooted', position(node), "'%s' is rooted too late: %s (line %d) may have moved the object before" %
                        (self.show(place), value.stale.name, value.stale.pos[1]), (place, value.stale))
            self.st.store(place, value._replace(stale=None))

    def call_capstanPopRoots(self, node, arguments, values):
        link = values[1].addr
        roots = self.st.roots
        at = next((i for i in reversed(range(len(roots))) if roots[i].place == link), None)
        if link is None or link[0][0] != 'v' or link[1] != ():
            pass
        elif at is None:
            self.report('roots', position(node), 'CAPSTAN_UNROOT, but these roots are not pushed here: taken back before, or never named')
        elif any(other.sure for other in roots[at + 1:]):
            self.report('roots', position(node), 'CAPSTAN_UNROOT of roots that are not the innermost: those of line %d are' %
                        roots[-1].pos[1])
        if at is not None:
            self.st.roots = roots[:at] + roots[at + 1:]
        return NOTHING

    call_capstanPopRootsOfCap = call_capstanPopRoots

    def markTailCalls(self, node):
        """The calls whose results are what a return gives."""
        kind = node['kind']
        if kind == 'CallExpr':
            self.tailCalls.add(node['id'])
        elif kind == 'ConditionalOperator':
            self.markTailCalls(node['inner'][1])
            self.markTailCalls(node['inner'][2])
        elif kind in ('ParenExpr', 'ImplicitCastExpr', 'CStyleCastExpr'):
            self.markTailCalls(node['inner'][0])
        elif kind == 'BinaryOperator' and node['opcode'] == ',':
            self.markTailCalls(node['inner'][1])

    def checkTailCall(self, node):
        if node['id'] not in self.tailCalls:
            self.report('tail', position(node), 'rts_tailCall is not the operand of return')
        elif any(link.sure for link in self.st.roots):
            self.report('tail', position(node), 'rts_tailCall with roots pushed (at line %d): CAPSTAN_UNROOT before it' %
                        self.st.roots[-1].pos[1])
            self.st.roots = tuple(link._replace(sure=False) for link in self.st.roots)

    def lock(self, name, node, arguments, values):
        key = values[0].addr if values and values[0].addr is not None else self.describe(arguments[0]) if arguments else '?'
        if name in LOCKS:
            self.st.locks[key] = position(node)
        elif key in self.st.locks:
            del self.st.locks[key]
        else:
            self.st.locks.clear()

    def threadLocal(self, name, pos):
        if self.managed and self.st is not None and self.st.passed:
            self.report('errno', pos, '%s belongs to an OS thread, and the thread may be on another one since %s (line %d): use it in a '
                        'function of its own that is not inlined' % (name, self.st.passed.name, self.st.passed.pos[1]), name)
