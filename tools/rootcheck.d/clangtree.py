"""What clang's syntax tree says: one Unit for each source file.

clang writes the tree as JSON (-Xclang -ast-dump=json), system headers included: megabytes for a small file.  The text
is cut into its top-level declarations first, and only those that can matter are parsed.

Places in the sources stand in the JSON as differences: a file or a line that is the same as in the place before is left
out, over the whole text.  So what is skipped has to be looked at for its last place.
"""
import json
import os
import re
import subprocess

NAMES = ('StgClosure', 'HaskellObj', 'Capability', 'Stack_', 'capstan', 'StgTSO', 'StgWord')
LAST_LINE = '"line": '
LAST_FILE = '"file": "'


class Trouble(Exception):
    """Something that keeps a file from being checked."""


def dump(clang, flags, path):
    command = [clang, '-fsyntax-only', '-w', '-Xclang', '-ast-dump=json', *flags, path]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise Trouble(done.stderr.decode(errors='replace').strip() or '%s failed on %s' % (clang, path))
    return done.stdout.decode(errors='replace')


class Locator:
    """The file and the line of the last place, and places in full as tuples (file, line, column, offset, length, is it that of a
    macro that got this text as an argument)."""

    def __init__(self):
        self.file, self.line = '', 0

    def fill(self, node):
        """A hook of the JSON parser: called for each object, in the order in which they end."""
        if 'col' in node and 'offset' in node:
            self.file = node.get('file', self.file)
            self.line = node.get('line', self.line)
            return (self.file, self.line, node['col'], node['offset'], node['tokLen'], 'isMacroArgExpansion' in node)
        return node

    def skip(self, text):
        at = text.rfind(LAST_LINE)
        if at >= 0:
            self.line = int(re.match(r'\d+', text[at + len(LAST_LINE):]).group())
        at = len(text)
        while True:
            at = text.rfind(LAST_FILE, 0, at)
            if at < 0:
                return
            if not text[:at].rstrip().endswith('"includedFrom": {'):
                break
        end = text.index('"', at + len(LAST_FILE))
        self.file = json.loads(text[at + len(LAST_FILE) - 1:end + 1])


def expansion(place):
    """Where the text of a macro was used, if the place is inside one; but a macro's argument is where it stands."""
    if isinstance(place, dict):
        use, text = place.get('expansionLoc'), place.get('spellingLoc')
        isArgument = use and text and use[5] and use[0] == text[0]
        place = text if isArgument else use or text
    return place or None


def position(node):
    begin = expansion(node.get('range', {}).get('begin')) or expansion(node.get('loc'))
    return begin[:3] if begin else ('?', 0, 0)


def isSystem(path):
    return path.startswith(('/usr/', '<')) or '/lib/clang/' in path


def declarations(text):
    """The top-level declarations that matter, parsed."""
    locator = Locator()
    start = text.find('\n  "inner": [\n')
    if start < 0:
        return
    for piece in text[start + len('\n  "inner": [\n'):].split('\n    },\n'):
        end = piece.rfind('\n    }\n  ]\n}')
        if end >= 0:
            piece = piece[:end]
        if not matters(piece, locator.file):
            locator.skip(piece)
            continue
        yield json.loads(piece + '}', object_hook=locator.fill)


def matters(piece, file):
    """Declarations of the checked program all do; of the system's headers, what speaks of this runtime.  The place of a
    declaration stands near its beginning, and says its file only if it is another than that of the one before."""
    head = piece[:1500]
    found = re.search(r'"offset": \d+,\s+"file": "([^"]*)"', head)
    if not isSystem(found.group(1) if found else file):
        return True
    if '"isImplicit": true' in head and '"loc": {}' in head:
        return False
    return any(name in piece for name in NAMES)


def isStatement(node):
    kind = node.get('kind', '')
    return not kind.endswith(('Attr', 'Comment')) and kind != ''


def inside(node):
    """The expression in parentheses and casts."""
    while node['kind'] in ('ParenExpr', 'ImplicitCastExpr', 'CStyleCastExpr', 'ConstantExpr'):
        node = node['inner'][0]
    return node


def literal(node):
    """The number, if it is one that is written out."""
    node = inside(node)
    if node['kind'] == 'UnaryOperator' and node['opcode'] == '-':
        number = literal(node['inner'][0])
        return None if number is None else -number
    return int(node['value']) if node['kind'] == 'IntegerLiteral' else None


class Unit:
    """One source file with its headers."""

    def __init__(self, path, text):
        self.path = path
        self.functions = {}   # name: the node of its definition
        self.marks = {}       # name: 'capstan_safepoint' or 'capstan_nosafepoint'
        self.records = {}     # 'struct X', or a typedef's name: the node of its definition
        self.typedefs = {}    # name: what it stands for
        self.variables = []   # at file scope
        self.threadLocals = set()
        self.noReturn = set()  # functions marked so; most have it in their type
        self.sources = {}     # the text of files
        byId = {}
        for node in declarations(text):
            self.add(node, byId)

    def add(self, node, byId):
        kind = node['kind']
        if kind == 'FunctionDecl':
            self.addFunction(node)
        elif kind == 'RecordDecl':
            byId[node['id']] = node
            if node.get('completeDefinition') and 'name' in node:
                self.records[node['tagUsed'] + ' ' + node['name']] = node
        elif kind == 'TypedefDecl':
            self.addTypedef(node, byId)
        elif kind == 'VarDecl':
            self.variables.append(node)
            if 'tls' in node:
                self.threadLocals.add(node['name'])

    def addTypedef(self, node, byId):
        name, meaning = node['name'], node['type']['qualType']
        inner = node.get('inner', [{}])[0]
        owned = inner.get('ownedTagDecl')
        if owned and not owned.get('name') and owned['id'] in byId:
            self.records[name] = byId[owned['id']]
        else:
            self.typedefs[name] = meaning

    def addFunction(self, node):
        inner = node.get('inner', [])
        for attribute in inner:
            if attribute.get('kind') == 'AnnotateAttr':
                mark = self.markOf(attribute)
                if mark:
                    self.marks[node['name']] = mark
            elif attribute.get('kind', '').endswith('NoReturnAttr'):
                self.noReturn.add(node['name'])
        if any(child.get('kind') == 'CompoundStmt' for child in inner):
            self.functions[node['name']] = node

    def markOf(self, attribute):
        """The JSON of clang 14 does not have an annotation's text, only its place."""
        begin, end = (attribute['range'].get(k) for k in ('begin', 'end'))
        if isinstance(begin, dict):
            begin, end = begin.get('spellingLoc'), end.get('spellingLoc') if isinstance(end, dict) else end
        if not begin or not end:
            return None
        found = re.search(r'capstan_(no)?safepoint', self.source(begin[0])[begin[3]:end[3] + end[4]])
        return found.group() if found else None

    def source(self, path):
        if path not in self.sources:
            try:
                with open(path, 'rb') as file:
                    self.sources[path] = file.read().decode('latin-1')   # offsets count bytes
            except OSError:
                self.sources[path] = ''
        return self.sources[path]


def read(clang, flags, path):
    if not os.path.exists(path):
        raise Trouble('%s: no such file' % path)
    return Unit(path, dump(clang, flags, path))
