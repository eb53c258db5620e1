"""What a compiled program moves, from its text: its kernels to and from memory, and devices to each other.

XLA counts no kernels for a GPU, and for a TPU what stays in the memory of the chip as well.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

COMPUTATION = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\) -> .* \{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*?)\)(.*)$")
NAME = re.compile(r"%([\w.\-]+)")
ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
TILE = re.compile(r"T\(([\d,]+)\)")
ON_CHIP = re.compile(r"S\([12]\)")  # a TPU's vector and scalar memory
COUNTER = re.compile(r"\b[su]32\[\](?:\{[^}]*\})?")
CALLED = re.compile(r"(?:to_apply|calls|body|true_computation|false_computation)=%([\w.\-]+)")
CONDITION = re.compile(r"condition=%([\w.\-]+)")
BRANCHES = re.compile(r"branch_computations=\{(.*?)\}")
TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
LOOPS = ("call", "while", "conditional")  # what they call runs as kernels of its own
PARTS = ("slice", "dynamic-slice", "gather")  # they read no more than their result
NO_KERNELS = (
    "parameter", "constant", "get-tuple-element", "tuple", "bitcast", "partition-id", "replica-id", "after-all",
    "opt-barrier",
)  # fmt: skip
EXCHANGES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


class Kernels(NamedTuple):
    """How many there are, the bytes of their operands and results in memory, and how many of those are padding."""

    number: int
    bytes: int
    padding: int


class Array(NamedTuple):
    """Bytes of its numbers; bytes that it takes in memory, where a TPU pads it to whole tiles; whether it lies in the
    memory of the chip instead."""

    numbers: int
    padded: int
    on_chip: bool


class Instruction(NamedTuple):
    """One line: its results, its operands by name, and the rest: its index, if it is a parameter, or what it calls."""

    name: str
    results: list[Array]
    opcode: str
    operands: list[str]
    inside: str
    after: str


Computations = dict[str, list[Instruction]]


class Executed(NamedTuple):
    """How often an instruction runs, the results of all that its computation names, and what is inside, if it is a
    fusion."""

    times: int
    one: Instruction
    results: Mapping[str, list[Array]]
    inside: list[Instruction]


def arrays(text: str) -> list[Array]:
    """The arrays that a type of XLA names, such as (f32[8,28]{1,0:T(8,128)S(1)}, u8[0]{0}); counters are none."""
    return [_array(*found) for found in ARRAY.findall(COUNTER.sub("", text))]


def _array(kind: str, shape: str, layout: str) -> Array:
    sides = [int(side) for side in shape.split(",") if side]
    numbers = padded = math.prod(sides) * width(kind)
    if tile := TILE.search(layout):
        order = [int(axis) for axis in layout.partition(":")[0].split(",") if axis]
        inner = [sides[axis] for axis in order]  # the fastest first, as the sides of the tile below
        edges = [int(edge) for edge in reversed(tile[1].split(","))]
        inner += [1] * (len(edges) - len(inner))
        whole = [-(-side // edge) * edge for side, edge in zip(inner, edges, strict=False)]
        padded = math.prod(whole + inner[len(edges) :]) * width(kind)
    return Array(numbers, padded, bool(ON_CHIP.search(layout)))


def width(kind: str) -> int:
    """Bytes of a number of XLA's type `kind`, such as bf16."""
    digits = re.search(r"\d+", kind)
    return max(int(digits[0]) // 8, 1) if digits else 1


def kernels(program: str) -> Kernels:
    """All kernels but exchanges between devices; those in a loop as often as it is known to turn, those of all branches
    of a condition.

    What a GPU's cache keeps from one kernel to the next counts as well, what lies in the memory of a TPU's chip does
    not.
    """
    total = Kernels(0, 0, 0)
    for ran in _executed(program):
        kind = ran.one.opcode.removesuffix("-start")
        if kind not in (*NO_KERNELS, *EXCHANGES) and not kind.endswith("-done"):
            total = Kernels(*(so_far + ran.times * new for so_far, new in zip(total, _moved(ran), strict=True)))
    return total


def collectives(program: str) -> dict[str, dict[str, int]]:
    """{kind: number and bytes} of what the devices exchange, in loops as `kernels` has it.

    A transfer that is started and awaited later counts once; where its start names operands as well, what arrives
    counts.
    """
    found: dict[str, dict[str, int]] = {}
    for ran in _executed(program):
        for one in (ran.one, *ran.inside):
            if (kind := one.opcode.removesuffix("-start")) in EXCHANGES:
                exchange = found.setdefault(kind, {"count": 0, "bytes": 0})
                exchange["count"] += ran.times
                exchange["bytes"] += ran.times * sum(array.numbers for array in _written(one, ran.results))
    return found


def _executed(program: str) -> Iterator[Executed]:
    """What a device does in one call of a program, in order."""
    computations, entry = _read(program)

    def run(name: str, times: int) -> Iterator[Executed]:
        results = {one.name: one.results for one in computations[name]}
        for one in computations[name]:
            branches = NAME.findall("".join(BRANCHES.findall(one.after)))
            called = [other for other in (*CALLED.findall(one.after), *branches) if other in computations]
            if one.opcode in LOOPS:
                turns = _turns(one, computations) if one.opcode == "while" else 1
                for other in called:
                    yield from run(other, times * turns)
            else:
                yield Executed(times, one, results, computations[called[0]] if one.opcode == "fusion" else [])

    return run(entry, 1)


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
            found[current].append(Instruction(it[1], arrays(it[2]), it[3], NAME.findall(it[4]), it[4], it[5]))
    return found, entry


def _turns(loop: Instruction, computations: Computations) -> int:
    """How often a loop turns: as the compiler says or, as that of TPUs does not, the one constant of its condition, up
    to which jax counts from 0; 1 if that is not known."""
    if said := TURNS.search(loop.after):
        return int(said[1])
    condition = CONDITION.search(loop.after)
    inside = computations.get(condition[1], []) if condition else []
    bounds = [one.inside for one in inside if one.opcode == "constant" and one.inside.isdigit()]
    return int(bounds[0]) if len(bounds) == 1 else 1


def _moved(ran: Executed) -> Kernels:
    """One kernel, run once."""
    one, results, inside = ran.one, ran.results, ran.inside
    read, written = {name: results.get(name, []) for name in one.operands}, _written(one, results)
    if one.opcode.removesuffix("-start") in PARTS:
        read |= _part(one.operands[0], written, read)
    for parameter in (other for other in inside if other.opcode == "parameter"):
        users = [other for other in inside if parameter.name in other.operands]
        if users and all(other.opcode in PARTS and other.operands[0] == parameter.name for other in users):
            read |= _part(one.operands[int(parameter.inside)], sum((other.results for other in users), []), read)
    in_memory = [array for array in written + sum(read.values(), []) if not array.on_chip]
    padded = sum(array.padded for array in in_memory)
    return Kernels(1, padded, padded - sum(array.numbers for array in in_memory))


def _written(one: Instruction, results: Mapping[str, list[Array]]) -> list[Array]:
    """The arrays that an instruction writes: a start may name its operands among its results."""
    written = list(one.results)
    if one.opcode.endswith("-start"):
        for array in sum((results.get(name, []) for name in one.operands), []):
            if array in written:
                written.remove(array)
    return written or one.results


def _part(operand: str, parts: Sequence[Array], read: Mapping[str, list[Array]]) -> dict[str, list[Array]]:
    """{operand: what is read of it}, where its parts are all that a kernel wants."""
    on_chip = any(array.on_chip for array in read[operand])
    return {operand: [part._replace(on_chip=on_chip) for part in parts]}
