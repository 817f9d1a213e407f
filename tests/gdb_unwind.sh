#!/bin/sh
# Stop at every instruction of the assembly in arch/ and let gdb walk up from there: the walk must reach main or the
# bottom of a stack of ours, pass through the C function that called, and find the values that archProbeRegisters had
# put into the callee-saved registers. Skipped (77) without a gdb that speaks Python. Under an emulator gdb-multiarch
# talks to qemu.
#
# UNWIND_PROGRAM: the program to run (default: unwind_test beside the current directory's tests); GDB: the debugger.

emulator=${CAPSTAN_EMULATOR:-}
# See withoutHalves below; and qemu before version 8 does not tell gdb which bits of an address are a signature.
case $emulator in *qemu-aarch64*) emulator="$emulator -cpu max,sve=off,pauth=off" ;; esac
gdb=${GDB:-gdb${emulator:+-multiarch}}
program=${UNWIND_PROGRAM:-tests/unwind_test}

# libtool may have left a script there, with the program behind it.
real=$(dirname "$program")/.libs/$(basename "$program")
[ -x "$real" ] && program=$real

"$gdb" -nx -batch -ex 'python print("usable")' 2>/dev/null | grep -q usable || {
    echo "no gdb with Python"
    exit 77
}

[ -e "$program" ] || {
    echo "no $program: the unit tests need cmocka"
    exit 77
}

# shellcheck disable=SC2086
$emulator "$program" --plain
status=$?
[ $status -ne 77 ] || echo "a sanitizer has its own stacks and unwinding"
[ $status -eq 0 ] || exit $status

work=$(mktemp -d "${TMPDIR:-/tmp}/gdb_unwind.XXXXXX") || exit 99
remote='' qemu=''
trap '[ -z "$qemu" ] || kill $qemu 2>/dev/null; rm -rf "$work"' EXIT
if [ -n "$emulator" ]; then
    remote=$work/socket
    $emulator -g "$remote" "$program" --plain &
    qemu=$!
    for i in 1 2 3 4 5 6 7 8 9 10; do
        [ -S "$remote" ] || sleep 1
    done
fi

cat >"$work/walk.py" <<'EOF'
import os
import struct

import gdb

SEED = 0x1122334455667700
# Registers that hold seed + 1, + 2 ... by the name that gdb has for the processor.
PROBED = {"i386:x86-64": ["rbx", "rbp", "r12", "r13", "r14", "r15"],
          "aarch64": ["x%d" % i for i in range(19, 30)] + ["v%d" % i for i in range(8, 16)],
          "riscv:rv64": ["fp"] + ["s%d" % i for i in range(1, 12)] + ["fs%d" % i for i in range(12)]}
ROUTINES = ["archCatch", "archEnter", "archRaise", "archLand", "archSwitch", "archBootStack", "callAcross",
            "archCallOnStack"]
CALLERS = {"runScenes", "bodyOfEnter", "bodyOfBoth", "fiberEntry", "bodyOnFiber", "switchHome", "calledOnFirst",
           "bodyOnFirst", "raisingBody", "switchFibers", "callOnFiber", "archProbeRegisters", "runAcross"}
# The innermost C functions of the test: walks that begin there cross every frame below.
PLACES = ["bodyOfCatch", "bodyOfEnter", "bodyOnFiber", "calledAtHome", "calledOnFirst", "calledOnSecond"]
# Padding before a return address, traps after calls that do not return.
UNREACHED = {"nop", "ud2", "unimp", "udf", "brk"}
faults = []


def instructions(name):
    start = int(gdb.parse_and_eval("(unsigned long) &" + name))
    block = gdb.execute("disassemble " + hex(start), to_string=True).splitlines()
    found = {}
    for line in block:
        words = line.replace("=>", "").split()
        if words and words[0].startswith("0x") and len(words) > 2:
            found[int(words[0], 16)] = words[2]
    return found


def walk():
    frames = []
    frame = gdb.newest_frame()
    while frame is not None and len(frames) < 100:
        frames.append(frame)
        frame = frame.older()
    return frames


def check(pc):
    frames = walk()
    names = [frame.name() for frame in frames]
    reason = frames[-1].unwind_stop_reason()
    where = "%#x <%s>: %s" % (pc, names[0], " < ".join(map(str, names)))
    last = names[-1]
    if last not in ("main", "archBootStack"):
        faults.append("walk stops early (%s) at %s" % (gdb.frame_stop_reason_string(reason), where))
    known = [name for name in names[1:] if name not in ROUTINES]
    if names[0] != "archBootStack" and known and known[0] not in CALLERS:
        faults.append("unknown caller at " + where)
    if not known and last == "main":
        faults.append("no caller at " + where)
    for frame in frames:
        if frame.name() == "archProbeRegisters":
            checkRegisters(frame, where)
            return 1
    return 0


def bitsOf(value):
    if value.type.code == gdb.TYPE_CODE_UNION:  # a floating register
        if value.type.has_key("d"):  # in a vector: its lower half
            return int(value["d"]["u"][0])
        return struct.unpack("<Q", struct.pack("<d", float(value["double"])))[0]
    return int(value) & (2**64 - 1)


# Where a processor has SVE, v8 is half of z8, and gdb before version 15 does not find such halves in outer frames.
def withoutHalves(names, architecture):
    if architecture.registers().find("z0") is None:
        return names
    return [name for name in names if name[0] != "v"]


def checkRegisters(frame, where):
    names = withoutHalves(PROBED[frame.architecture().name()], frame.architecture())
    values = [bitsOf(frame.read_register(name)) for name in names]
    if values not in ([seed + 1 + i for i in range(len(names))] for seed in (SEED, SEED >> 8)):
        faults.append("registers %s at %s" % (list(map(hex, values)), where))


def run():
    gdb.execute("set pagination off")
    gdb.execute("set confirm off")
    gdb.execute("set disassembly-flavor att")
    gdb.execute("set breakpoint pending off")
    if os.environ["REMOTE"]:
        gdb.execute("set sysroot /")
        gdb.execute("set auto-solib-add off")
        gdb.execute("target remote " + os.environ["REMOTE"])
        gdb.execute("break main")
        gdb.execute("continue")
    else:
        gdb.execute("break main")
        gdb.execute("run --plain")
    gdb.execute("delete")
    wanted = {}
    for name in ROUTINES:
        try:
            wanted.update(instructions(name))
        except gdb.error:
            faults.append("no such routine: " + name)
    wanted.update((int(gdb.parse_and_eval("(unsigned long) &" + name)), name) for name in PLACES)
    for address in wanted:
        gdb.Breakpoint("*" + hex(address), internal=True)
    seen = set()
    stops = probed = 0
    while True:
        gdb.execute("continue", to_string=True)
        if not gdb.selected_inferior().pid:
            break
        pc = int(gdb.newest_frame().pc())
        if pc not in wanted:
            faults.append("stopped at %#x by something else" % pc)
            break
        seen.add(pc)
        stops += 1
        probed += check(pc)
    missed = [address for address in wanted if address not in seen and wanted[address] not in UNREACHED]
    for address in missed:
        faults.append("never stopped at %#x %s" % (address, wanted[address]))
    if not probed:
        faults.append("no walk passed archProbeRegisters")
    print("stops %d, with probed registers %d, addresses %d of %d" % (stops, probed, len(seen), len(wanted)))


def main():
    try:
        run()
    except gdb.error as error:
        faults.append("gdb: %s" % error)
    for fault in faults[:20]:
        print("FAULT " + fault)
    print("VERDICT " + ("bad" if faults else "good"))


main()
EOF

REMOTE=$remote "$gdb" -nx -batch -x "$work/walk.py" "$program" >"$work/out" 2>&1
grep -E '^(stops|FAULT|VERDICT)' "$work/out" || cat "$work/out"
grep -q '^VERDICT good' "$work/out"
