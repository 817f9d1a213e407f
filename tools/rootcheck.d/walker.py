"""Goes through one function, statement by statement, and keeps the state that holds there.

Loops are gone through until their state stays the same; states only grow, so they do.  A function with labels is gone
through until the states at its labels stay the same.
"""
from clangtree import expansion, isStatement, position
from expressions import Expressions
from typenames import ofNode
from values import (CAP, FIRST, FIXED, HEAP, INNER, NOTHING, PINNED, STILL, UNSET, State, fresh, join, joinStates, moves,
                    pointer)

PASSES = 30


class Summary:
    """What callers must know of a function.  Keys are (parameter's number, path below what it points to).

    reads     what it reads that it did not write, also in structures that it gets by value
    requires  what it reads after a safepoint, so that the caller must have rooted it
    keeps     what it roots itself around its safepoints
    writes    what it may write: HEAP or CAP or neither
    gives     the flags of the value that it returns, None if it never returned yet
    passes    a safepoint after which it returned, or None"""

    def __init__(self):
        self.reads, self.requires, self.writes = {}, {}, {}
        self.keeps = self.gives = self.passes = None

    def key(self):
        return (frozenset(self.reads), frozenset(self.requires), frozenset(self.writes), self.keeps, self.gives,
                self.passes is None)


class Walker(Expressions):
    def __init__(self, program, function):
        self.program, self.function, self.unit, self.types = program, function, function.unit, function.unit.types
        node = function.node
        self.reports = {}
        self.summary = Summary()
        self.st = None
        self.parameters = [c for c in node.get('inner', []) if c.get('kind') == 'ParmVarDecl']
        self.numbers = {p['id']: i for i, p in enumerate(self.parameters)}
        self.names = {p['id']: p.get('name', '?') for p in self.parameters}
        self.body = next(c for c in node['inner'] if c.get('kind') == 'CompoundStmt')
        self.scopes = []        # sets of the variables declared in each block that we are in
        self.loops = []         # what breaks and continues come to
        self.labels = {}        # label: the state of the gotos to it
        self.labelDepth = {}
        self.passed = {}        # (function, parameter's number): the flags of what it gets here
        self.tailCalls = set()  # calls that are operands of a return
        self.managed = any(self.types.isStack(ofNode(p)) for p in self.parameters)
        self.kinds = {}         # place: what is kept there, HEAP or CAP
        self.here = None        # the cast that is evaluated
        self.supposed = 0       # how many operands are evaluated as if others had come first

    # ---- Reports -----------------------------------------------------------------------------------------------

    def report(self, kind, pos, text, key=None):
        """Of several with the same key the first in the text stays."""
        key = (kind, key if key is not None else (pos, text))
        old = self.reports.get(key)
        if old is None or pos < old[0]:
            self.reports[key] = (pos, kind, text)

    def unbalanced(self, link):
        if link.place[0][0] == 'v':
            self.report('roots', link.pos, 'these roots are taken back on one way from here and not on another', link.place)

    def join(self, a, b):
        return joinStates(a, b, self.unbalanced)

    # ---- The function ------------------------------------------------------------------------------------------

    def run(self):
        self.findLabels(self.body, 0)
        for _ in range(PASSES):
            before = {k: v and v.copy() for k, v in self.labels.items()}
            self.st = State()
            self.scopes, self.loops = [set()], []
            for parameter in self.parameters:
                self.enter(parameter)
            self.statement(self.body)
            self.keeps()
            if self.labels == before:
                break

    def enter(self, parameter):
        name, place = ofNode(parameter), (('v', parameter['id']), ())
        leaves = self.types.leaves(name)
        for path, leaf in leaves:
            kind = self.byType(leaf)
            still = path == () and self.numbers[parameter['id']] in self.function.still
            self.st.places[(place[0], path)] = FIXED if still else kind if path == () else fresh(kind.flags | FIRST)
            self.kinds[(place[0], path)] = kind.flags
        if not leaves and self.types.pointee(name) and not self.types.isStack(name):
            self.st.places[place] = pointer((('p', parameter['id']), ()))

    def byType(self, name):
        if self.types.isObject(name):
            return fresh(HEAP)
        return fresh(CAP) if self.types.isCapability(name) else NOTHING

    def findLabels(self, node, depth):
        """How many blocks lie around each label: a goto leaves those inside."""
        if node.get('kind') == 'LabelStmt':
            self.labelDepth[node['declId']] = depth
        if node.get('kind') == 'CompoundStmt':
            depth += 1
        for child in node.get('inner', ()):
            if 'inner' in child:
                self.findLabels(child, depth)

    def hasLabel(self, node):
        if '_label' not in node:
            node['_label'] = (node.get('kind') in ('LabelStmt', 'CaseStmt', 'DefaultStmt') or
                              any(self.hasLabel(c) for c in node.get('inner', ()) if c))
        return node['_label']

    # ---- Statements --------------------------------------------------------------------------------------------

    def statement(self, node):
        kind = node.get('kind')
        if kind is None or (self.st is None and not self.hasLabel(node)):
            return
        handler = getattr(self, 'on' + kind, None)
        if handler:
            handler(node)
        elif kind != 'NullStmt':
            self.value(node)

    def onCompoundStmt(self, node):
        self.scopes.append(set())
        for child in node.get('inner', ()):
            self.statement(child)
        declared = self.scopes.pop()
        if self.st is not None:
            self.leave(declared, (expansion(node['range']['end']) or position(node))[:3], 'the block ends')

    def leave(self, declared, pos, what):
        """The variables declared end here; a link of the root chain among them must have been taken off."""
        kept = []
        for link in self.st.roots:
            if link.place[0][0] == 'v' and link.place[0][1] in declared:
                if link.sure:
                    self.report('roots', pos, '%s with roots pushed (at line %d): CAPSTAN_UNROOT before it' %
                                (what, link.pos[1]), (pos, link.place))
            else:
                kept.append(link)
        self.st.roots = tuple(kept)

    def leaveTo(self, depth, node, what):
        declared = set().union(*self.scopes[depth:]) if self.scopes[depth:] else set()
        self.leave(declared, position(node), what)

    def onDeclStmt(self, node):
        for child in node.get('inner', ()):
            if child.get('kind') == 'VarDecl':
                self.declare(child)
            elif child.get('kind') == 'RecordDecl' and 'name' in child:
                self.unit.records[child['tagUsed'] + ' ' + child['name']] = child

    def declare(self, node):
        if node.get('storageClass') in ('static', 'extern'):
            self.program.static(self.unit, node)
            return
        self.names[node['id']] = node.get('name', '?')
        self.scopes[-1].add(node['id'])
        place, name = (('v', node['id']), ()), ofNode(node)
        if self.types.isStack(name):
            self.managed = True
        for old in self.st.below(place):
            del self.st.places[old]
        first = next((c for c in node.get('inner', ()) if isStatement(c)), None)
        for path, leaf in self.types.leaves(name):
            kind = self.byType(leaf)
            self.kinds[(place[0], path)] = kind.flags
            self.st.places[(place[0], path)] = FIXED if first else fresh(UNSET | kind.flags)
        if first is not None and 'init' in node:
            value = self.value(first)
            if self.st is not None:
                self.assign(place, name, value)

    def onIfStmt(self, node):
        parts = node['inner']
        yes, no = self.condition(parts[0])
        self.st = yes
        self.statement(parts[1])
        yes, self.st = self.st, no
        if len(parts) > 2:
            self.statement(parts[2])
        self.st = self.join(yes, self.st)

    def onSwitchStmt(self, node):
        condition, body = node['inner'][-2:]
        self.value(condition)
        loop = {'breaks': None, 'continues': None, 'depth': len(self.scopes), 'entry': self.st, 'default': False}
        self.loops.append(loop)
        self.st = None
        self.statement(body)
        self.loops.pop()
        ends = self.join(self.st, loop['breaks'])
        self.st = ends if loop['default'] else self.join(ends, loop['entry'])
        if 'continues' in loop and loop['continues'] is not None:
            self.innermostLoop()['continues'] = self.join(self.innermostLoop()['continues'], loop['continues'])

    def innermostLoop(self):
        return next(loop for loop in reversed(self.loops) if 'entry' not in loop)

    def onCaseStmt(self, node):
        switch = next((loop for loop in reversed(self.loops) if 'entry' in loop), None)
        if switch is not None:
            if node['kind'] == 'DefaultStmt':
                switch['default'] = True
            self.st = self.join(self.st, switch['entry'])
        self.statement(node['inner'][-1])

    onDefaultStmt = onCaseStmt

    def onLabelStmt(self, node):
        self.st = self.join(self.st, self.labels.get(node['declId']))
        for child in node.get('inner', ()):
            self.statement(child)

    def onGotoStmt(self, node):
        label = node['targetLabelDeclId']
        self.leaveTo(self.labelDepth.get(label, 0) + 1, node, 'goto leaves a block')
        self.labels[label] = self.join(self.labels.get(label), self.st)
        self.st = None

    def onBreakStmt(self, node):
        loop = self.loops[-1]
        self.leaveTo(loop['depth'], node, 'break leaves a block')
        loop['breaks'] = self.join(loop['breaks'], self.st)
        self.st = None

    def onContinueStmt(self, node):
        loop = self.innermostLoop()
        self.leaveTo(loop['depth'], node, 'continue leaves a block')
        loop['continues'] = self.join(loop['continues'], self.st)
        self.st = None

    def onReturnStmt(self, node):
        if node.get('inner'):
            self.markTailCalls(node['inner'][0])
            value = self.value(node['inner'][0])
            if self.st is not None:
                self.gives(value)
        if self.st is not None:
            declared = set().union(*self.scopes)
            self.leave(declared, position(node), 'return')
        self.keeps()
        self.st = None

    def keeps(self):
        """At a way out: what of the caller's memory is still right, though there was a safepoint."""
        if self.st is None or self.st.passed is None:
            return
        self.summary.passes = self.summary.passes or self.st.passed
        kept = frozenset((self.numbers[place[0][1]], place[1]) for place, value in self.st.places.items()
                         if place[0][0] == 'p' and place[0][1] in self.numbers and moves(value) and not value.stale)
        self.summary.keeps = kept if self.summary.keeps is None else self.summary.keeps & kept

    def gives(self, value):
        value = fresh(value.flags & (HEAP | INNER | CAP | STILL | PINNED))
        old = self.summary.gives
        self.summary.gives = (value if old is None else join(fresh(old), value)).flags

    # ---- Loops -------------------------------------------------------------------------------------------------

    def loop(self, head, round_):
        """round_(loop) goes from the loop's head to its end once, and answers (the state to go on with, the state in which
        the loop ends); head: the state before it."""
        breaks = None
        for _ in range(PASSES):
            loop = {'breaks': None, 'continues': None, 'depth': len(self.scopes)}
            self.loops.append(loop)
            self.st = head and head.copy()
            again, out = round_(loop)
            self.loops.pop()
            breaks = self.join(out, loop['breaks'])
            new = self.join(head, again)
            if new == head:
                break
            head = new
        self.st = breaks

    def onWhileStmt(self, node):
        condition, body = node['inner'][-2:]

        def once(loop):
            yes, no = self.condition(condition)
            self.st = yes
            self.statement(body)
            return self.join(self.st, loop['continues']), no
        self.loop(self.st, once)

    def onDoStmt(self, node):
        body, condition = node['inner']

        def once(loop):
            self.statement(body)
            self.st = self.join(self.st, loop['continues'])
            return self.condition(condition)
        self.loop(self.st, once)

    def onForStmt(self, node):
        first, _, condition, step, body = node['inner']
        self.scopes.append(set())
        self.statement(first)

        def once(loop):
            yes, no = self.condition(condition) if condition else (self.st, None)
            self.st = yes
            self.statement(body)
            self.st = self.join(self.st, loop['continues'])
            self.statement(step)
            return self.st, no
        self.loop(self.st, once)
        self.scopes.pop()
