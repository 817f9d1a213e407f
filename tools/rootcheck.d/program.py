"""The functions of a program: who calls whom, which of them may reach a safepoint, and what callers must know of them."""
from clangtree import Trouble, isSystem, position
from typenames import Types, ofNode, parameters
from walker import Summary, Walker

ROUNDS = 8
UNEVALUATED = ('UnaryExprOrTypeTraitExpr', 'OffsetOfExpr')
# No safepoint, but what C holds is no good afterwards.
ENDS = {'rts_unlock'}
BEGINS = {'rts_lock', 'rts_tryLock', 'rts_lockOpt'}
# What the macros of rts/Managed.h are made of.
OWN = ('capstanPushRoots', 'capstanPopRoots', 'capstanPushRootsOfCap', 'capstanPopRootsOfCap')


class Function:
    def __init__(self, unit, node):
        self.unit, self.node, self.name = unit, node, node['name']
        self.file = position(node)[0]
        self.summary, self.reports = Summary(), {}
        self.reaches = None       # the name of a safepoint that it may reach
        self.calls = []           # CallExpr nodes
        self.callsParameters = set()
        names = [p for p in node.get('inner', []) if p.get('kind') == 'ParmVarDecl']
        self.contextParameter = self.findContext(unit.types, names)
        self.still = set()        # parameters that never get what moves
        self.passed = {}          # what the functions called get here
        self.isStatic, self.isPassedOn = False, False
        self.parameterIds = {p['id']: i for i, p in enumerate(names)}

    def findContext(self, types, names):
        """For functions that are passed with an argument: which parameter gets it, the last pointer that is no stack."""
        found = None
        for i, p in enumerate(names):
            if types.pointee(ofNode(p)) and not types.isStack(ofNode(p)) and not types.isCapability(ofNode(p)):
                found = i
        return found


def children(node):
    """The parts that are evaluated."""
    kind = node.get('kind')
    if kind in UNEVALUATED:
        return []
    if kind == 'GenericSelectionExpr':
        return [c['inner'][-1] for c in node['inner'][1:] if c.get('selected')]
    return [c for c in list(node.get('inner', ())) + list(node.get('array_filler', ()))[1:] if c and 'kind' in c]


class Program:
    def __init__(self, units):
        self.units = units
        self.marks = {}
        self.globals = {}    # external functions by name
        self.statics = {}    # (path of the unit, name)
        for unit in units:
            unit.types = Types(unit)
            self.marks.update(unit.marks)
            for name, node in unit.functions.items():
                self.add(unit, name, node)
        self.functions = list(self.globals.values()) + list(self.statics.values())
        for unit in units:
            for node in unit.variables:
                self.collectPassed(unit, node)
        for function in self.functions:
            self.collect(function, function.node)
            function.isInCall = self.isInCall(function)
        self.findSafepoints()

    def add(self, unit, name, node):
        function = Function(unit, node)
        if node.get('storageClass') == 'static' or node.get('inline'):
            self.statics[(unit.path, name)] = function
            function.isStatic = True
        else:
            self.globals[name] = function

    def static(self, unit, node):
        if 'tls' in node:
            unit.threadLocals.add(node['id'])

    def find(self, unit, name):
        return self.statics.get((unit.path, name)) or self.globals.get(name)

    def gives(self, unit, name):
        function = self.find(unit, name) if name else None
        return function.summary.gives if function else None

    # ---- The call graph ---------------------------------------------------------------------------------------------

    def collect(self, function, node):
        if node.get('kind') == 'CallExpr':
            function.calls.append(node)
            target = self.calleeNode(node)
            if target is not None and target['referencedDecl']['id'] in function.parameterIds:
                function.callsParameters.add(function.parameterIds[target['referencedDecl']['id']])
            if target is not None:
                target['_called'] = True
        self.notePassed(function.unit, node)
        for child in children(node):
            self.collect(function, child)

    def notePassed(self, unit, node):
        """A function that is not only called here may be called from anywhere."""
        if node.get('kind') == 'DeclRefExpr' and '_called' not in node and node['referencedDecl']['kind'] == 'FunctionDecl':
            function = self.find(unit, node['referencedDecl']['name'])
            if function is not None:
                function.isPassedOn = True

    def collectPassed(self, unit, node):
        self.notePassed(unit, node)
        for child in children(node):
            self.collectPassed(unit, child)

    def isInCall(self, function):
        """A whole in-call: whoever calls it holds no capability, so that nothing of what it has can move."""
        types = function.unit.types
        parameters_ = [ofNode(p) for p in function.node.get('inner', []) if p.get('kind') == 'ParmVarDecl']
        ends = [name for name in map(self.calleeName, function.calls) if name in BEGINS or name in ENDS]
        return (ends[:1] != [] and ends[0] in BEGINS and
                not any(types.isStack(t) or types.isCapability(t) or types.isIndirect(t) for t in parameters_))

    def calleeNode(self, node):
        node = node['inner'][0]
        while node['kind'] in ('ParenExpr', 'ImplicitCastExpr', 'GenericSelectionExpr') or (
                node['kind'] == 'UnaryOperator' and node['opcode'] in '*&'):
            node = children(node)[0]
        return node if node['kind'] == 'DeclRefExpr' else None

    def calleeName(self, node):
        if '_name' not in node:
            target = self.calleeNode(node)
            isFunction = target is not None and target['referencedDecl']['kind'] == 'FunctionDecl'
            node['_name'] = target['referencedDecl']['name'] if isFunction else None
        return node['_name']

    def findSafepoints(self):
        """The functions that call a safepoint, and those that call them, until there are no more."""
        changed = True
        while changed:
            changed = False
            for function in self.functions:
                if function.reaches is None and not function.isInCall and self.marks.get(function.name) != 'capstan_nosafepoint':
                    function.reaches = next(filter(None, (self.isSafepoint(function.unit, c) for c in function.calls)), None)
                    changed = changed or function.reaches is not None

    def isSafepoint(self, unit, node):
        """What to call the safepoint that this call may reach, or None."""
        name = self.calleeName(node)
        if name is None:
            return 'a call through a pointer' if self.mayRunManaged(unit, node) else None
        if name in ENDS:
            return name
        mark = self.marks.get(name)
        if mark is not None:
            return name if mark == 'capstan_safepoint' else None
        function = self.find(unit, name)
        if function is None:
            return name if self.mayRunManaged(unit, node) and not name.startswith('__builtin') else None
        if function.reaches or any(self.passes(unit, node, i) for i in function.callsParameters):
            return name
        return None

    def mayRunManaged(self, unit, node):
        """Nothing is known of the function but its type.  One that gets a capability by value cannot say which one is held
        afterwards, so it makes and reads values."""
        types = parameters(node['inner'][0].get('type', {}).get('qualType', ''))
        return any(unit.types.isStack(t) or unit.types.isIndirect(t) for t in types)

    def passes(self, unit, node, i):
        """Is the i-th argument a function that may reach a safepoint?"""
        if i + 1 >= len(node['inner']):
            return False
        inner = node['inner'][i + 1]
        while inner['kind'] in ('ParenExpr', 'ImplicitCastExpr', 'CStyleCastExpr') or (
                inner['kind'] == 'UnaryOperator' and inner['opcode'] == '&'):
            inner = inner['inner'][0]
        if inner['kind'] != 'DeclRefExpr' or inner['referencedDecl']['kind'] != 'FunctionDecl':
            return False
        function = self.find(unit, inner['referencedDecl']['name'])
        return function is not None and function.reaches is not None

    def safepointIn(self, unit, node):
        """The first safepoint in an expression: (name, place), or None."""
        for call in self.callsIn(node):
            why = self.isSafepoint(unit, call)
            if why and self.returns(unit, call):
                return (why, position(call))
        return None

    def returns(self, unit, call):
        return 'noreturn' not in ofNode(call['inner'][0]) and self.calleeName(call) not in unit.noReturn

    def callsIn(self, node):
        if '_calls' not in node:
            found = [node] if node.get('kind') == 'CallExpr' else []
            for child in children(node):
                found += self.callsIn(child)
            node['_calls'] = found
        return node['_calls']

    # ---- Checking -------------------------------------------------------------------------------------------------------

    def check(self):
        """Callees before callers, then again those whose callees' summaries have changed."""
        order = self.calleesFirst()
        callers = {id(f): [] for f in order}
        for f in order:
            for callee in self.mentioned(f):
                callers[id(callee)].append(f)
        due = {id(f) for f in order}
        for _ in range(ROUNDS):
            work, due = [f for f in order if id(f) in due], set()
            for function in work:
                before = function.summary.key()
                self.checkFunction(function)
                if function.summary.passes is None:
                    function.reaches = None   # only on ways that never return
                if function.summary.key() != before:
                    due.update(id(c) for c in callers[id(function)])
            due = due or {id(f) for f in self.findStill()}
            if not due:
                break

    def findStill(self):
        """Functions with parameters of which it has turned out that they only ever get what does not move."""
        gets = {}
        for function in self.functions:
            for (callee, i), flags in function.passed.items():
                gets.setdefault(callee, {}).setdefault(i, []).append(flags)
        changed = []
        for callee, numbers in gets.items():
            still = {i for i, flags in numbers.items() if all(flags)}
            if callee.isStatic and not callee.isPassedOn and not still <= callee.still:
                callee.still |= still
                changed.append(callee)
        return changed

    def checkFunction(self, function):
        if function.name in OWN:
            return
        walker = Walker(self, function)
        try:
            walker.run()
        except Exception as trouble:
            raise Trouble('%s:%d: %s cannot be checked: %s: %s' % (*position(function.node)[:2], function.name,
                                                                   type(trouble).__name__, trouble)) from trouble
        self.checkMark(function, walker)
        function.summary, function.reports, function.passed = walker.summary, walker.reports, walker.passed

    def checkMark(self, function, walker):
        why = walker.summary.passes
        if self.marks.get(function.name) == 'capstan_nosafepoint' and why and why.name not in ENDS:
            walker.report('mark', why.pos, '%s is marked CAPSTAN_NOSAFEPOINT and calls the safepoint %s' % (function.name, why.name))

    def mentioned(self, function):
        """The functions of the program that it calls or passes on."""
        found = {}
        stack = [function.node]
        while stack:
            node = stack.pop()
            if node.get('kind') == 'DeclRefExpr' and node['referencedDecl'].get('kind') == 'FunctionDecl':
                target = self.find(function.unit, node['referencedDecl']['name'])
                if target is not None and target is not function:
                    found[id(target)] = target
            stack.extend(children(node))
        return list(found.values())

    def calleesFirst(self):
        order, seen = [], set()
        for root in self.functions:
            stack = [(root, None)]
            while stack:
                function, rest = stack.pop()
                if rest is None:
                    if id(function) in seen:
                        continue
                    seen.add(id(function))
                    rest = iter(self.mentioned(function))
                below = next((f for f in rest if id(f) not in seen), None)
                if below is None:
                    order.append(function)
                else:
                    stack.append((function, rest))
                    stack.append((below, None))
        return order

    def reports(self):
        """Of all files that are not the system's, in the order of the text, each once."""
        found = set()
        for function in self.functions:
            for pos, kind, text in function.reports.values():
                if not isSystem(pos[0]):
                    found.add((pos, kind, text))
        return sorted(found)
