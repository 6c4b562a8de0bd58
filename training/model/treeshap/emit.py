"""Small expression layer over llvmlite, in which LLVM code reads like arithmetic.

It covers the needs of `training.model.treeshap.kernel`: 64-bit integers, doubles, vectors of
`LANES` doubles, pointers, counted loops, and variables. A double combined with a vector is repeated
in every lane. Products and sums are never contracted implicitly; fused multiply-adds are explicit
(`fma`), so results do not depend on the position of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from training.model.treeshap.layout import LANES

I32, I64, F64 = ir.IntType(32), ir.IntType(64), ir.DoubleType()
VEC = ir.VectorType(F64, LANES)
ALIGN = 8
"""Guaranteed alignment of addresses; actual data are aligned to 64, see `kernel`."""


@dataclass(frozen=True)
class Value:
    """A value of the kernel: an integer, a double, or a vector of doubles.

    Attributes
    ----------
    build : llvmlite.ir.IRBuilder
        Builder of expressions that use it.
    ir : llvmlite.ir.Value
        LLVM value.
    """

    build: ir.IRBuilder
    ir: Any

    def like(self, other: Value | float) -> Value:
        """Return `other` in the type of this value: constants typed, doubles in every lane."""
        if not isinstance(other, Value):
            kind = F64 if self.ir.type == VEC else self.ir.type
            return self.like(Value(self.build, ir.Constant(kind, other)))
        return other.repeated() if self.ir.type == VEC else other

    def repeated(self) -> Value:
        """Return the double in every lane of a vector; a vector as it is."""
        if self.ir.type == VEC:
            return self
        nothing, lane = ir.Constant(VEC, ir.Undefined), ir.Constant(I32, 0)
        first = self.build.insert_element(nothing, self.ir, lane)
        everywhere = ir.Constant(ir.VectorType(I32, LANES), [0] * LANES)
        return Value(self.build, self.build.shuffle_vector(first, nothing, everywhere))

    def _with(self, other: Value | float, on_reals: str, on_integers: str) -> Value:
        right = self.like(other)
        left = right.like(self)
        name = on_integers if left.ir.type == I64 else on_reals
        return Value(self.build, getattr(self.build, name)(left.ir, right.ir))

    def __add__(self, other: Value | float) -> Value:
        return self._with(other, "fadd", "add")

    def __sub__(self, other: Value | float) -> Value:
        return self._with(other, "fsub", "sub")

    def __mul__(self, other: Value | float) -> Value:
        return self._with(other, "fmul", "mul")

    def _compare(self, sign: str, other: Value | float) -> Value:
        right = self.like(other)
        left = right.like(self)
        compare = self.build.icmp_signed if left.ir.type == I64 else self.build.fcmp_ordered
        return Value(self.build, compare(sign, left.ir, right.ir))

    def __le__(self, other: Value | float) -> Value:
        return self._compare("<=", other)

    def __lt__(self, other: Value | float) -> Value:
        return self._compare("<", other)

    def __gt__(self, other: Value | float) -> Value:
        return self._compare(">", other)

    def equals(self, other: Value | float) -> Value:
        """Return whether the two are equal, per lane; never of a NaN."""
        return self._compare("==", other)

    def is_nan(self) -> Value:
        """Return whether it is NaN, per lane."""
        return Value(self.build, self.build.fcmp_unordered("uno", self.ir, self.ir))

    def pick(self, yes: Value | float, no: Value) -> Value:
        """Return `yes` where this condition holds and `no` elsewhere, per lane."""
        if isinstance(self.ir.type, ir.VectorType):
            no = no.repeated()
        return Value(self.build, self.build.select(self.ir, no.like(yes).ir, no.ir))


def absolute(x: Value) -> Value:
    """Return |x|, per lane."""
    kind, name = x.ir.type, "llvm.fabs.v8f64" if x.ir.type == VEC else "llvm.fabs.f64"
    return Value(x.build, x.build.call(_intrinsic(x, name, [kind]), [x.ir]))


def fma(x: Value, y: Value, z: Value) -> Value:
    """Return x·y + z, rounded once."""
    if VEC in (x.ir.type, y.ir.type, z.ir.type):
        x, y, z = x.repeated(), y.repeated(), z.repeated()
    kind, name = x.ir.type, "llvm.fma.v8f64" if x.ir.type == VEC else "llvm.fma.f64"
    return Value(x.build, x.build.call(_intrinsic(x, name, [kind] * 3), [x.ir, y.ir, z.ir]))


def _intrinsic(near: Value, name: str, kinds: list[Any]) -> Any:
    """Return one of LLVM's own functions, declared once per module."""
    module = near.build.module
    declared = ir.FunctionType(kinds[0], kinds)
    return module.globals.get(name) or ir.Function(module, declared, name)


@dataclass(frozen=True)
class Array:
    """A pointer to numbers of one type, indexed by 64-bit integers, never checked."""

    build: ir.IRBuilder
    pointer: Any

    def _at(self, index: Value, kind: Any) -> Any:
        place = self.build.gep(self.pointer, [index.ir])
        return self.build.bitcast(place, kind.as_pointer())

    def __getitem__(self, index: Value) -> Value:
        place = self.build.gep(self.pointer, [index.ir])
        return Value(self.build, self.build.load(place))

    def __setitem__(self, index: Value, value: Value) -> None:
        self.build.store(value.ir, self.build.gep(self.pointer, [index.ir]))

    def vector(self, index: Value) -> Value:
        """Return `LANES` doubles from `index` on."""
        return Value(self.build, self.build.load(self._at(index, VEC), align=ALIGN))

    def put(self, index: Value, value: Value) -> None:
        """Store a vector from `index` on."""
        self.build.store(value.ir, self._at(index, VEC), align=ALIGN)


@dataclass(frozen=True)
class Variable:
    """Mutable value; LLVM turns it into a register."""

    build: ir.IRBuilder
    place: Any

    @property
    def value(self) -> Value:
        """Present value."""
        return Value(self.build, self.build.load(self.place))

    def set(self, value: Value) -> None:
        """Set another value."""
        self.build.store(value.ir, self.place)


def variable(start: Value) -> Variable:
    """Return a variable with the value `start`."""
    with start.build.goto_entry_block():
        place = start.build.alloca(start.ir.type)
    found = Variable(start.build, place)
    found.set(start)
    return found


@contextmanager
def counted(start: Value, stop: Value, step: int = 1) -> Iterator[Value]:
    """Loop over i = start, start + step, … below `stop`."""
    build, counter = start.build, variable(start)
    head = build.append_basic_block("head")
    body = build.append_basic_block("body")
    after = build.append_basic_block("after")
    build.branch(head)
    build.position_at_end(head)
    build.cbranch((counter.value < stop).ir, body, after)
    build.position_at_end(body)
    yield counter.value
    counter.set(counter.value + step)
    build.branch(head)
    build.position_at_end(after)


@contextmanager
def backwards(stop: Value) -> Iterator[Value]:
    """Loop over i = stop − 1, …, 0."""
    zero = Value(stop.build, ir.Constant(I64, 0))
    with counted(zero, stop) as i:
        yield stop - 1 - i


def when(condition: Value, then: Callable[[], None], otherwise: Callable[[], None]) -> None:
    """Branch on a condition."""
    with condition.build.if_else(condition.ir) as (yes, no):
        with yes:
            then()
        with no:
            otherwise()
