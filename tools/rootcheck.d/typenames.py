"""Types by their names, as clang writes them."""
import re

OBJECTS = re.compile(r'(struct )?(StgClosure_?|StgThunk|StgAP|StgPAP|StgMutVar|StgInd|StgArray|StgBytes|StgExternal|'
                     r'StgBoxed|StgMVar|StgThreadId|StgStaticThunk_?)')
QUALIFIERS = re.compile(r'\b(const|volatile|restrict|__restrict|_Atomic)\b')
DEEP = 6    # so many steps, and what a pointer of the caller's points to is not kept track of
MANY = 40   # an array with more elements is looked at as a whole


def plain(name):
    """Without qualifiers and blanks that do not matter."""
    name = re.sub(r'_Atomic\((.*)\)', r'\1', name)
    name = QUALIFIERS.sub('', name)
    return re.sub(r'\s+', ' ', name).strip().replace(' *', '*').replace('* ', '*')


def ofNode(node):
    return plain(node.get('type', {}).get('qualType', ''))


class Types:
    """The types of one unit."""

    def __init__(self, unit):
        self.unit = unit
        self.known = {}     # name: its leaves

    def resolve(self, name):
        """What a typedef stands for, down to a record, a pointer or a basic type."""
        name = plain(name)
        for _ in range(20):
            if name == 'HaskellObj' or name in self.unit.records or name not in self.unit.typedefs:
                break
            name = plain(self.unit.typedefs[name])
        return name

    def pointee(self, name):
        """What a pointer points to, or None."""
        name = self.resolve(name)
        if name == 'HaskellObj':
            return 'StgClosure'
        return name[:-1] if name.endswith('*') else None

    def isObject(self, name):
        """Is it a pointer to a managed object?"""
        to = self.pointee(name)
        return to is not None and OBJECTS.fullmatch(to) is not None

    def isCapability(self, name):
        """A pointer to what may be another one after a safepoint: a capability, or the record of a thread."""
        to = self.pointee(name)
        return to is not None and re.fullmatch(r'(struct )?(Capability|StgTSO)_?', to) is not None

    def isStack(self, name):
        to = self.pointee(name)
        return to is not None and re.fullmatch(r'(struct )?Stack_?', to) is not None

    def isIndirect(self, name):
        """Capability **: through it the callee says which one is held afterwards."""
        to = self.pointee(name)
        return to is not None and self.isCapability(to)

    def leaves(self, name, depth=0):
        """The managed words in a variable of this type: a list of (path, type)."""
        name = self.resolve(name)
        if name in self.known:
            return self.known[name]
        if self.isObject(name) or self.isCapability(name):
            return [((), name)]
        found = []
        array = re.fullmatch(r'([^\[]*[^)\[])\[(\d*)\](.*)', name)
        if array:
            count = int(array.group(2) or 0)
            places = range(count) if 0 < count <= MANY else ['*']
            below = self.leaves((array.group(1) + array.group(3)).strip(), depth + 1)
            found = [((i,) + path, leaf) for i in places for path, leaf in below]
        elif name in self.unit.records and depth < 6:
            found = self.fields(self.unit.records[name], depth)
        self.known[name] = found
        return found

    def fieldTypes(self, record):
        """The fields of a record in their order: (name, type, the record it is defined as in place)."""
        found, last = [], None
        for node in record.get('inner', []):
            if node.get('kind') == 'RecordDecl':
                last = node
            elif node.get('kind') == 'FieldDecl':
                name = node['type']['qualType']
                inPlace = last if '(anonymous' in name or '(unnamed' in name else None
                found.append((node.get('name', ''), name, inPlace))
        return found

    def fields(self, record, depth):
        found = []
        for name, ofType, inPlace in self.fieldTypes(record):
            below = self.fields(inPlace, depth + 1) if inPlace else self.leaves(ofType, depth + 1)
            found += [((name,) + path, leaf) for path, leaf in below]
        return found

    def record(self, name):
        return self.unit.records.get(self.resolve(name))


def parameters(functionType):
    """The parameters' types in the name of a function's type, or of a pointer to one."""
    name = functionType
    at = name.find('(*')
    start = name.find('(', name.find(')', at)) if at >= 0 else name.find('(')
    if start < 0:
        return []
    parts, depth, begin = [], 0, start + 1
    for i in range(start, len(name)):
        c = name[i]
        if c == '(':
            depth += 1
        elif c == ')':
            depth -= 1
            if depth == 0:
                parts.append(name[begin:i])
                break
        elif c == ',' and depth == 1:
            parts.append(name[begin:i])
            begin = i + 1
    return [p.strip() for p in parts if p.strip() not in ('', 'void')]
