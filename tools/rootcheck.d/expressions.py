"""Expressions: what their values are, and what they do to the state.

An lvalue is one of ('place', place, type): a variable that is kept track of; ('heap', type): memory inside an object;
('static', place, type): a variable with static storage; ('other', type): anything else.
"""
from calls import Calls
from clangtree import inside, literal, position
from typenames import DEEP, MANY, ofNode, plain
from values import (CAP, FIRST, FIXED, GIVEN, HEAP, INNER, NOTHING, PINNED, STILL, UNSET, Safepoint, Value, fresh, isIndex, join,
                    moves, offset, pointer, vague)

COMPARISONS = ('==', '!=', '<', '>', '<=', '>=')
DEEPEST = 3
TESTS = ('rts_isSmallInt', 'rts_isImmediate', 'rts_isImmediateOf')


class Expressions(Calls):
    def value(self, node):
        """The value of an expression; the state becomes that after it."""
        if self.st is None or not node or 'kind' not in node:
            return NOTHING
        handler = getattr(self, 'value' + node['kind'], None)
        if handler:
            return handler(node)
        if node.get('valueCategory') == 'lvalue':
            self.lvalue(node)
            return NOTHING
        self.group([c for c in node.get('inner', ()) if c.get('kind') and 'valueCategory' in c])
        return self.byType(ofNode(node))

    # ---- Order ---------------------------------------------------------------------------------------------------

    def group(self, nodes, evaluate=None):
        """Operands that C evaluates in any order.  If there is a safepoint in one, the others may come before or after."""
        evaluate = evaluate or self.value
        points = [self.program.safepointIn(self.unit, n) for n in nodes]
        found = []
        for i, node in enumerate(nodes):
            other = next((p for j, p in enumerate(points) if p and j != i), None)
            if other:
                self.evaluateLater(node, evaluate, other)
            found.append(evaluate(node))
        return found

    def evaluateLater(self, node, evaluate, other):
        """As if the other operand had come first; what is found is reported, and the state stays."""
        before = self.st
        if before is None or self.supposed == DEEPEST:   # each level doubles the work
            return
        self.supposed += 1
        self.st = before.copy()
        self.st.safepoint(Safepoint(other[0], other[1], True))
        value = evaluate(node)
        if self.st is not None:
            self.checkOrder(node, value, other)
        self.st = before
        self.supposed -= 1

    def checkOrder(self, node, value, other):
        values = value.parts.values() if value.parts else [value]
        if any(moves(v) and not v.stale for v in values):
            pos = position(node)
            self.report('order', pos, '%s may be evaluated before %s (line %d) in the same expression, and is stale '
                        'then: evaluate that one first, into a variable' % (self.describe(node), other[0], other[1][1]), pos)

    def describe(self, node):
        """A few words for an expression."""
        node = inside(node)
        kind = node['kind']
        if kind == 'DeclRefExpr':
            return "'%s'" % node['referencedDecl'].get('name', '?')
        if kind == 'MemberExpr':
            return "'%s%s%s'" % (self.describe(node['inner'][0]).strip("'"), '->' if node['isArrow'] else '.', node['name'])
        if kind == 'ArraySubscriptExpr':
            return "'%s[]'" % self.describe(node['inner'][0]).strip("'")
        if kind == 'UnaryOperator':
            return "'%s%s'" % (node['opcode'], self.describe(node['inner'][0]).strip("'"))
        if kind == 'CallExpr':
            return 'the result of %s' % (self.calleeName(node) or 'a call')
        return 'this value'

    # ---- Names of variables ----------------------------------------------------------------------------------------

    def show(self, place):
        base, path = place
        text = self.names.get(base[1], base[1] if base[0] == 'g' else 'memory' if base[0] == 'm' else 'a value')
        arrow = base[0] == 'p'
        for step in path:
            if step == '->':
                text, arrow = '(*%s)' % text if arrow else text, True
                continue
            index = step[1] if isinstance(step, tuple) else step
            if isIndex(index):
                text += '[%s]' % ('' if index == '*' else index)
            else:
                text += ('->' if arrow else '.') + step
            arrow = False
        return '*' + text if arrow else text

    # ---- Reading and writing -----------------------------------------------------------------------------------------

    def read(self, lv, node, quiet=False):
        kind, ofType = lv[0], lv[-1]
        if kind != 'place':
            return self.byType(ofType)
        place = lv[1]
        leaves = self.types.leaves(ofType)
        if leaves and leaves[0][0] != () or len(leaves) > 1:
            return Value(0, None, None, {path: self.known((place[0], place[1] + path), leaf) for path, leaf in leaves})
        value = self.known(place, ofType)
        if quiet:
            return value
        self.noteRead(place, value)
        if value.stale:
            self.useStale(place, value, position(node))
        return value._replace(stale=None)

    def known(self, place, ofType):
        """What is known of a place.  Memory of the caller's has not been looked at until it is first asked for."""
        value = self.st.lookup(place)
        if value is None:
            value = self.byType(ofType)
            if place[0][0] == 'p' and moves(value):
                value = Value(value.flags | GIVEN | FIRST, self.st.passed if value.flags & HEAP else None, None, None)
                self.st.places[place] = value
            elif place[0][0] == 'p' and len(place[1]) < DEEP and self.types.pointee(ofType) and not self.types.isStack(ofType):
                value = self.st.places[place] = pointer((place[0], place[1] + ('->',)))
        return value

    def noteRead(self, place, value):
        if value.flags & FIRST and place[0][1] in self.numbers:
            self.summary.reads.setdefault((self.numbers[place[0][1]], place[1]), self.show(place))
        if value.flags & GIVEN and place[0][0] == 'p':
            key = (self.numbers.get(place[0][1], -1), place[1])
            if value.stale and value.flags & HEAP:
                self.summary.requires.setdefault(key, value.stale)

    def useStale(self, place, value, pos, what=None):
        why = value.stale
        if value.flags & GIVEN and value.flags & HEAP and place[0][0] == 'p':
            return   # the caller has to root it
        name = what or "'%s'" % self.show(place)
        when = 'line %d%s' % (why.pos[1], ', which C may evaluate first' if why.order else '')
        if value.flags & CAP:
            kind, rest = 'cap', 'another may be held since %s (%s): read it again' % (why.name, when)
        elif value.flags & INNER:
            kind, rest = 'inner', 'it is an address inside an object, which %s (%s) may have moved: get it again' % (why.name, when)
        else:
            kind, rest = 'unrooted', 'it is not rooted, and %s (%s) may have moved the object' % (why.name, when)
        if why.order:
            self.report('order', pos, '%s is stale here: %s' % (name, rest), pos)
        else:
            self.report(kind, pos, '%s is stale here: %s' % (name, rest), (place, why))

    def write(self, lv, value, pos):
        kind, ofType = lv[0], lv[-1]
        if kind == 'static':
            values = value.parts.values() if value.parts else [value]
            if any(v.flags & HEAP and not v.flags & STILL for v in values) and not self.st.isRooted(lv[1]):
                self.report('static', pos, "'%s' has static storage, where the collector does not look: use a stable pointer, "
                            'or a CAF' % self.show(lv[1]))
        elif kind == 'place':
            self.assign(lv[1], ofType, value)

    def noteWrite(self, place, kind):
        if place[0][0] == 'p' and place[0][1] in self.numbers:
            key = (self.numbers[place[0][1]], place[1])
            self.summary.writes[key] = self.summary.writes.get(key, 0) | kind

    def placed(self, value, place):
        given = GIVEN if place[0][0] == 'p' and moves(value) else 0
        return value._replace(flags=value.flags & ~(GIVEN | FIRST) | given)

    def assign(self, place, ofType, value):
        self.noteWrite(place, self.byType(ofType).flags)
        if value.parts is not None:
            for old in self.st.below(place):
                self.st.store(old, FIXED)
            for path, part in value.parts.items():
                below = (place[0], place[1] + path)
                if moves(part) or part.addr is not None or below in self.kinds:
                    self.st.store(below, self.placed(part, place))
            return
        leaves = self.types.leaves(ofType)
        if leaves and leaves[0][0] == ():
            self.kinds[place] = self.byType(ofType).flags
        if leaves and leaves[0][0] != ():
            for path, leaf in leaves:
                self.st.store((place[0], place[1] + path), self.byType(leaf))
            return
        if leaves or value.flags or value.addr is not None or vague(place[1]):
            self.st.store(place, self.placed(value, place))
        else:
            self.st.places.pop(place, None)

    # ---- Lvalues -----------------------------------------------------------------------------------------------------

    def lvalue(self, node):
        if self.st is None:
            return ('other', '')
        handler = getattr(self, 'lvalue' + node['kind'], None)
        if handler:
            return handler(node)
        for child in node.get('inner', ()):
            if child.get('valueCategory') == 'lvalue':
                return self.lvalue(child)
            self.value(child)
        return ('other', ofNode(node))

    def lvalueDeclRefExpr(self, node):
        target, ofType = node['referencedDecl'], ofNode(node)
        name = target.get('name', '?')
        if target['id'] in self.names:
            return ('place', (('v', target['id']), ()), ofType)
        if name in self.unit.threadLocals or target['id'] in self.unit.threadLocals:
            self.threadLocal("'%s'" % name, position(node))
        return ('static', (('g', name), ()), ofType)

    def lvalueMemberExpr(self, node):
        base, ofType = node['inner'][0], ofNode(node)
        if node['isArrow']:
            lv = self.target(self.value(base), ofNode(base))
        elif base.get('valueCategory') == 'lvalue':
            lv = self.lvalue(base)
        else:
            self.value(base)
            lv = ('other', '')
        if lv[0] in ('place', 'static'):
            return (lv[0], (lv[1][0], lv[1][1] + (node.get('name', ''),)), ofType)
        return lv[:-1] + (ofType,)

    def target(self, value, pointerType):
        """What a pointer points to."""
        to = self.types.pointee(pointerType) or ''
        if self.types.isObject(pointerType) or value.flags & (HEAP | INNER):
            return ('heap', value.flags & PINNED, to)
        if value.addr is not None and value.addr[0][0] == 'g':
            return ('static', value.addr, to)
        if value.addr is not None and value.addr[0][0] != 'f':
            return ('place', value.addr, to)
        return ('other', to)

    def lvalueArraySubscriptExpr(self, node):
        base, index = node['inner']
        if self.types.pointee(ofNode(base)) is None:
            base, index = index, base
        value, _ = self.group([base, index])
        if self.st is None:
            return ('other', '')
        lv = self.target(value, ofNode(base))
        if lv[0] in ('place', 'static'):
            number = literal(index)
            return (lv[0], offset(lv[1], '*' if number is None or number >= MANY else number), ofNode(node))
        return lv[:-1] + (ofNode(node),)

    def lvalueUnaryOperator(self, node):
        operand = node['inner'][0]
        if node['opcode'] == '*':
            lv = self.target(self.value(operand), ofNode(operand))
            return lv[:-1] + (ofNode(node),)
        return self.lvalue(operand)

    def lvalueParenExpr(self, node):
        return self.lvalue(node['inner'][0])

    def lvalueCompoundLiteralExpr(self, node):
        place, ofType = (('t', node['id']), ()), ofNode(node)
        value = self.value(node['inner'][0])
        if self.st is not None:
            self.assign(place, ofType, value)
        return ('place', place, ofType)

    def lvalueGenericSelectionExpr(self, node):
        return self.lvalue(self.selected(node))

    def lvaluePredefinedExpr(self, node):
        return ('other', ofNode(node))

    lvalueStringLiteral = lvaluePredefinedExpr

    def addressOf(self, lv):
        if lv[0] == 'place':
            return pointer(lv[1])
        if lv[0] == 'heap':
            return FIXED if lv[1] else fresh(INNER)
        return Value(STILL, None, lv[1], None) if lv[0] == 'static' else NOTHING

    # ---- Kinds of expressions -----------------------------------------------------------------------------------------

    def valueParenExpr(self, node):
        return self.value(node['inner'][0])

    valueConstantExpr = valueParenExpr

    def valueUnaryExprOrTypeTraitExpr(self, node):
        return NOTHING   # sizeof does not evaluate

    valueOffsetOfExpr = valueUnaryExprOrTypeTraitExpr

    def selected(self, node):
        for child in node['inner'][1:]:
            if child.get('selected'):
                return child['inner'][-1]
        return node['inner'][-1]

    def valueGenericSelectionExpr(self, node):
        return self.value(self.selected(node))

    def valueImplicitValueInitExpr(self, node):
        return FIXED

    def valueDeclRefExpr(self, node):
        target = node['referencedDecl']
        if target['kind'] == 'FunctionDecl':
            return Value(STILL, None, (('f', (target['name'],)), ()), None)
        return NOTHING

    def valueImplicitCastExpr(self, node):
        operand, kind = node['inner'][0], node.get('castKind')
        if kind == 'LValueToRValue':
            lv = self.lvalue(operand)
            return self.read(lv, operand) if self.st is not None else NOTHING
        if kind == 'ArrayToPointerDecay':
            return self.decay(operand)
        value, self.here = self.value(operand), position(node)
        return self.cast(kind, value, ofNode(node)) if self.st is not None else NOTHING

    valueCStyleCastExpr = valueImplicitCastExpr

    def decay(self, operand):
        lv = self.lvalue(operand)
        if self.st is None:
            return NOTHING
        if lv[0] in ('place', 'static'):
            lv = (lv[0], (lv[1][0], lv[1][1] + (0,)), lv[-1])
        return self.addressOf(lv)

    def cast(self, kind, value, to):
        isObject = self.types.isObject(to)
        if kind == 'NullToPointer':
            return FIXED
        if kind == 'IntegralToPointer':
            if value.flags & INNER:
                return value._replace(flags=HEAP if isObject else INNER)
            return FIXED
        if kind == 'PointerToIntegral' and value.flags & (HEAP | INNER):
            return value if value.flags & STILL else fresh(INNER)
        if kind in ('BitCast', 'NoOp', 'LValueBitCast'):
            return self.castPointer(value, to, isObject)
        if kind in ('FunctionToPointerDecay', 'IntegralCast', 'ToVoid'):
            return value
        return value if value.parts else NOTHING

    def castPointer(self, value, to, isObject):
        if isObject and not value.flags & (STILL | HEAP):
            if value.addr is not None and value.addr[0][0] == 'p' and self.st.passed:
                # The parameter itself was the object, under another type: nobody can have rooted that.
                name = self.names.get(value.addr[0][1], '?')
                self.useStale(value.addr, Value(HEAP, self.st.passed, None, None), self.here, "'%s'" % name)
            return fresh(HEAP)
        if value.flags & HEAP and not isObject and not value.flags & STILL:
            return value._replace(flags=(value.flags & ~(HEAP | PINNED)) | INNER)
        return value

    def valueUnaryOperator(self, node):
        operand, opcode = node['inner'][0], node['opcode']
        if opcode == '&':
            if operand.get('valueCategory') != 'lvalue':
                return self.value(operand)   # of a function
            lv = self.lvalue(operand)
            if self.st is None:
                return NOTHING
            if lv[0] == 'place' and operand['kind'] == 'ArraySubscriptExpr':
                return pointer(lv[1])
            return self.addressOf(lv)
        if opcode in ('++', '--'):
            return self.increment(node, operand, 1 if opcode == '++' else -1)
        value = self.value(operand)
        return value if opcode in ('__extension__', '+') else NOTHING

    def increment(self, node, operand, by):
        lv = self.lvalue(operand)
        if self.st is None:
            return NOTHING
        old = self.read(lv, operand)
        new = old._replace(addr=offset(old.addr, by)) if old.addr is not None and old.addr[0][0] != 'f' else old
        if new.addr is not None and self.loops:
            new = new._replace(addr=offset(old.addr, '*'))
        self.write(lv, new, position(node))
        return old if node.get('isPostfix') else new

    def valueBinaryOperator(self, node):
        left, right = node['inner']
        opcode = node['opcode']
        if opcode == '=':
            return self.assignment(node, left, right)
        if opcode == ',':
            self.value(left)
            return self.value(right)
        if opcode in ('&&', '||'):
            yes, no = self.condition(node)
            self.st = self.join(yes, no)
            return NOTHING
        if opcode in COMPARISONS:
            self.compare(left, right)
            return NOTHING
        a, b = self.group([left, right])
        if opcode in ('+', '-') and self.types.pointee(ofNode(node)) is not None:
            return self.shift(a, b, opcode, right)
        return NOTHING

    def shift(self, a, b, opcode, right):
        """Arithmetic with a pointer."""
        if a.addr is not None and a.addr[0][0] not in 'fg':
            number = literal(right)
            return a._replace(addr=offset(a.addr, '*' if number is None else number if opcode == '+' else -number))
        return a if a.flags & INNER else b if b.flags & INNER else NOTHING

    def assignment(self, node, left, right):
        found = {}

        def evaluate(operand):
            if operand is left:
                found['lv'] = self.lvalue(operand)
                return NOTHING
            return self.value(operand)
        _, value = self.group([left, right], evaluate)
        if self.st is None:
            return NOTHING
        self.write(found['lv'], value, position(node))
        return value

    def valueCompoundAssignOperator(self, node):
        left, right = node['inner']
        self.group([left, right], lambda n: self.compoundLeft(n) if n is left else self.value(n))
        if self.st is None or self.types.pointee(ofNode(node)) is None:
            return NOTHING
        lv = self.lvalue(left)
        old = self.read(lv, left)
        if old.addr is not None and old.addr[0][0] not in 'fg':
            old = old._replace(addr=offset(old.addr, '*'))
        self.write(lv, old, position(node))
        return old

    def compoundLeft(self, node):
        lv = self.lvalue(node)
        return self.read(lv, node) if self.st is not None else NOTHING

    def peek(self, node):
        """The value, and its place if it is a variable's; comparing a stale address with what does not move harms nobody."""
        inner = node
        while inner['kind'] in ('ParenExpr',) or inner['kind'].endswith('CastExpr') and inner.get('castKind') in ('NoOp', 'BitCast'):
            inner = inner['inner'][0]
        if inner.get('castKind') != 'LValueToRValue':
            return self.value(node), None
        operand = inner['inner'][0]
        lv = self.lvalue(operand)
        if self.st is None:
            return NOTHING, None
        return self.read(lv, operand, quiet=True), (lv[1] if lv[0] == 'place' else None)

    def compare(self, left, right):
        """Answers the place that was compared with what does not move, if there is one."""
        places = {}

        def evaluate(node):
            value, place = self.peek(node)
            places[id(node)] = place
            return value
        a, b = self.group([left, right], evaluate)
        if self.st is None:
            return None
        fixed = next((i for i, v in enumerate((a, b)) if v.flags & STILL), None)
        if fixed is None:
            for value, node in ((a, left), (b, right)):
                place = places[id(node)]
                if place is not None:
                    self.noteRead(place, value)
                    if value.stale:
                        self.useStale(place, value, position(node))
            return None
        return places[id(right if fixed == 0 else left)]

    def valueConditionalOperator(self, node):
        condition, yes, no = node['inner']
        self.st, other = self.condition(condition)
        a = self.value(yes)
        after, self.st = self.st, other
        b = self.value(no)
        dead = after is None, self.st is None
        self.st = self.join(after, self.st)
        if dead[0] or dead[1]:
            return b if dead[0] else a
        return join(a, b) if not a.parts and not b.parts else a

    def valueBinaryConditionalOperator(self, node):
        value = self.value(node['inner'][0])
        before = self.st and self.st.copy()
        other = self.value(node['inner'][-1])
        self.st = self.join(before, self.st)
        return join(value, other)

    def valueOpaqueValueExpr(self, node):
        return NOTHING

    def valueStmtExpr(self, node):
        block = node['inner'][0]
        self.scopes.append(set())
        value = NOTHING
        children = block.get('inner', ())
        for i, child in enumerate(children):
            if i == len(children) - 1 and 'valueCategory' in child:
                value = self.value(child)
            else:
                self.statement(child)
        declared = self.scopes.pop()
        if self.st is not None:
            self.leave(declared, position(node), 'the block ends')
        return value

    def valueInitListExpr(self, node):
        nodes = node['array_filler'][1:] if 'array_filler' in node else node.get('inner', [])
        name = ofNode(node)
        record = self.types.record(name)
        if record is None and not name.endswith(']'):
            return self.value(nodes[0]) if nodes else FIXED
        values = self.group(nodes)
        if record is None:
            steps = range(len(values))
        elif 'field' in node:
            steps = [node['field'].get('name', '')]
        else:
            steps = [field[0] for field in self.types.fieldTypes(record)]
        return self.composite(zip(steps, values))

    def composite(self, pairs):
        parts = {}
        for step, value in pairs:
            step = '*' if isinstance(step, int) and step >= MANY else step
            for path, part in (value.parts.items() if value.parts is not None else [((), value)]):
                key = (step,) + path
                parts[key] = join(parts[key], part) if key in parts else part
        return Value(0, None, None, parts)

    def valueCompoundLiteralExpr(self, node):
        return self.value(node['inner'][0])

    def valueAtomicExpr(self, node):
        """__atomic_load_n and the like: the first operand is an address."""
        values = self.group(node['inner'])
        if self.st is None:
            return NOTHING
        ofType = ofNode(node)
        lv = self.target(values[0], ofNode(node['inner'][0]))
        if lv[0] == 'place' and self.types.leaves(plain(lv[-1])):
            if plain(ofType) == 'void':
                self.write(lv, values[-1] if len(values) > 2 else self.byType(lv[-1]), position(node))
            else:
                return self.read(lv, node)
        return self.byType(ofType)

    # ---- Conditions ------------------------------------------------------------------------------------------------------

    def condition(self, node):
        """The states in which the condition is true and false."""
        inner = inside(node)
        kind = inner['kind']
        if self.st is None:
            return None, None
        if kind == 'UnaryOperator' and inner['opcode'] == '!':
            yes, no = self.condition(inner['inner'][0])
            return no, yes
        if kind == 'BinaryOperator' and inner['opcode'] in ('&&', '||'):
            return self.shortCut(inner)
        if kind == 'CallExpr' and self.calleeName(inner) == '__builtin_expect':
            return self.condition(inner['inner'][1])
        number = literal(inner)
        if number is not None:
            return (self.st, None) if number else (None, self.st)
        return self.refined(inner, node)

    def shortCut(self, node):
        left, right = node['inner']
        yes, no = self.condition(left)
        if node['opcode'] == '&&':
            self.st = yes
            rightYes, rightNo = self.condition(right)
            return rightYes, self.join(no, rightNo)
        self.st = no
        rightYes, rightNo = self.condition(right)
        return self.join(yes, rightYes), rightNo

    def refined(self, inner, node):
        """What a test says about the value that it tests."""
        place, sense = None, True
        if inner['kind'] == 'BinaryOperator' and inner['opcode'] in ('==', '!='):
            place, sense = self.compare(*inner['inner']), inner['opcode'] == '=='
        else:
            if inner['kind'] == 'CallExpr' and self.calleeName(inner) in TESTS:
                argument = inside(inner['inner'][1])
                if argument['kind'] == 'DeclRefExpr' and argument['referencedDecl']['id'] in self.names:
                    place = (('v', argument['referencedDecl']['id']), ())
            self.value(node)
        yes, no = self.st, self.st and self.st.copy()
        if place is not None and self.st is not None:
            narrowed = yes if sense else no
            value = narrowed.lookup(place)
            if value is not None and value.flags & HEAP and not value.flags & UNSET:
                narrowed.store(place, FIXED)
        return yes, no
