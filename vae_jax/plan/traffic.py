"""The kernels of a compiled program and the bytes that they move, from its text: XLA counts neither for a GPU."""

import math
import re
from typing import NamedTuple

COMPUTATION = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\) -> .* \{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*?)\)(.*)$")
NAME = re.compile(r"%([\w.\-]+)")
SHAPE = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
CALLED = re.compile(r"(?:to_apply|calls|body|true_computation|false_computation)=%([\w.\-]+)")
BRANCHES = re.compile(r"branch_computations=\{(.*?)\}")
TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
LOOPS = ("call", "while", "conditional")  # what they call runs as kernels of its own
PARTS = ("slice", "dynamic-slice", "gather")  # they read no more than their result
NO_KERNELS = (
    "parameter", "constant", "get-tuple-element", "tuple", "bitcast", "partition-id", "replica-id", "after-all",
    "opt-barrier", "all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter",
)  # fmt: skip


class Kernels(NamedTuple):
    """How many there are, and bytes of their operands and results."""

    number: int
    bytes: int


class Instruction(NamedTuple):
    """One line: bytes of its result, its operands by name, and the rest: its index, if it is a parameter, or what it
    calls."""

    name: str
    size: int
    opcode: str
    operands: list[str]
    inside: str
    after: str


Computations = dict[str, list[Instruction]]


def arrays(text: str) -> list[int]:
    """The bytes of each array that a type of XLA names, such as (f32[8,28]{1,0}, u8[0]{0})."""
    return [math.prod(map(int, filter(None, shape.split(",")))) * width(kind) for kind, shape in SHAPE.findall(text)]


def width(kind: str) -> int:
    """Bytes of a number of XLA's type `kind`, such as bf16."""
    digits = re.search(r"\d+", kind)
    return max(int(digits[0]) // 8, 1) if digits else 1


def kernels(program: str) -> Kernels:
    """All kernels but exchanges between devices; those in a loop as often as it is known to turn, those of all branches
    of a condition.

    What a cache keeps from one kernel to the next counts as well.
    """
    computations, entry = _read(program)
    return _kernels(computations, entry)


def _read(program: str) -> tuple[Computations, str]:
    """(the computations by name, the name of the first one)."""
    found: Computations = {}
    entry = current = ""
    for line in program.splitlines():
        if head := COMPUTATION.match(line):
            current = head[2]
            found[current] = []
            entry = current if head[1] else entry
        elif current and (it := INSTRUCTION.match(line)):
            found[current].append(Instruction(it[1], sum(arrays(it[2])), it[3], NAME.findall(it[4]), it[4], it[5]))
    return found, entry


def _kernels(computations: Computations, name: str) -> Kernels:
    body, number, total = computations[name], 0, 0
    sizes = {one.name: one.size for one in body}
    for one in body:
        branches = NAME.findall("".join(BRANCHES.findall(one.after)))
        called = [other for other in (*CALLED.findall(one.after), *branches) if other in computations]
        if one.opcode in LOOPS:
            turns = TURNS.search(one.after)
            times = int(turns[1]) if turns else 1
            for inside in (_kernels(computations, other) for other in called):
                number, total = number + times * inside.number, total + times * inside.bytes
        elif one.opcode.removesuffix("-start") not in NO_KERNELS and not one.opcode.endswith("-done"):
            read = {operand: sizes.get(operand, 0) for operand in one.operands}
            if one.opcode == "fusion":
                read |= _parts(computations[called[0]], one.operands)
            number, total = number + 1, total + one.size + sum(read.values())
    return Kernels(number, total)


def _parts(body: list[Instruction], operands: list[str]) -> dict[str, int]:
    """{operand: bytes} of those of which a fusion reads a part only."""
    read = {}
    for parameter in (one for one in body if one.opcode == "parameter"):
        users = [one for one in body if parameter.name in one.operands]
        if users and all(one.opcode in PARTS and one.operands[0] == parameter.name for one in users):
            read[operands[int(parameter.inside)]] = sum(one.size for one in users)
    return read
