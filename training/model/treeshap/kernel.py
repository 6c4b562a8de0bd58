"""Kernel: passes over the trees, compiled once per process by LLVM, called without the GIL.

Functions come in pairs from one source: `LANES` rows side by side in the lanes of a vector, and one
row with its quadrature nodes side by side. Both do the same operations on a row in the same order,
so a row gets the same bits from either. One pair explains and predicts, the other only predicts:
all decisions of a tree without a branch on the row, then up from its leaves.

LLVM is used directly through llvmlite, the library below numba: numba's front end takes 4 to 5
seconds of processor time, LLVM alone a third of a second, and less memory at the start of a
service. Nothing is written to disk.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from training.model.treeshap.emit import (
    F64,
    I32,
    I64,
    Array,
    Value,
    Variable,
    absolute,
    backwards,
    counted,
    fma,
    variable,
    when,
)
from training.model.treeshap.layout import (
    IS_CATEGORICAL,
    LANES,
    NAN_LEFT,
    NODE_REALS,
    NODE_WORDS,
    TREE_WORDS,
    UNDER_FIRST,
    ZERO_LEFT,
    Forest,
)
from training.model.treeshap.parse import ZERO

TILE = 16
"""Blocks that pass through one tree before the next: its branches are then well predicted, and
rows and sums of 60 features still fit the second-level cache."""

CACHE_LINE = 64

_INTEGERS = ("n_blocks", "n_trees", "n_features")
_POINTERS: dict[str, Any] = {
    "trees": I64,
    "words": I32,
    "reals": F64,
    "bits": I32,
    "leaves": F64,
    "tables": F64,
    "x": F64,
    "alpha": F64,
    "value": F64,
    "poly": F64,
    "phi": F64,
    "raw": F64,
}


@dataclass(frozen=True)
class _Scope:
    """One compiled function while it is written: `width` rows at a time, 8 or 1.

    ``alpha``, ``value`` and ``poly`` are scratch: per inner node α of the rows, the leaf the rows
    reach from there, and the polynomial at the quadrature nodes — P on the way down, G on the way
    up, when P of the node is no longer needed.
    """

    build: ir.IRBuilder
    width: int
    numbers: dict[str, Value]
    arrays: dict[str, Array]

    def number(self, value: int) -> Value:
        """Return an integer constant."""
        return Value(self.build, ir.Constant(I64, value))

    def rows(self, name: str, index: Value) -> Value:
        """Return the rows' values: a vector, or one double."""
        array = self.arrays[name]
        return array.vector(index) if self.width > 1 else array[index]

    def put_rows(self, name: str, index: Value, value: Value) -> None:
        """Store the rows' values."""
        if self.width > 1:
            self.arrays[name].put(index, value.repeated())
        else:
            self.arrays[name][index] = value

    def table(self, place: Value, k: Value) -> Value:
        """Return an entry of a table for the k-th part of the polynomial."""
        tables = self.arrays["tables"]
        return tables[place + k] if self.width > 1 else tables.vector(place + k * LANES)

    def add_up(self, total: Variable, term: Value, n_points: Value) -> None:
        """Add the k-th part: of all rows, or of one row's nodes in their order."""
        if self.width > 1:
            total.set(total.value + term)
            return

        def add(lanes: range) -> None:
            for lane in lanes:
                part = self.build.extract_element(term.ir, ir.Constant(I32, lane))
                total.set(total.value + Value(self.build, part))

        half = LANES // 2
        add(range(half))
        when(n_points > half, lambda: add(range(half, LANES)), lambda: None)

    def zero(self) -> Value:
        """Return zeros for the rows."""
        plain = Value(self.build, ir.Constant(F64, 0.0))
        return plain.repeated() if self.width > 1 else plain


@dataclass(frozen=True)
class _TreeAt:
    """One tree and one block of rows.

    Attributes
    ----------
    n_parts : Value
        Vectors of the polynomial at a node: K in blocks, K over `LANES` for one row.
    padded : Value
        K, filled up to full vectors: distance from τ to c in a table.
    rows, sums, raw : Value
        Places of the block in ``x``, ``phi`` and ``raw``.
    """

    scope: _Scope
    n_nodes: Value
    n_points: Value
    n_parts: Value
    padded: Value
    first_node: Value
    first_leaf: Value
    rows: Value
    sums: Value
    raw: Value

    def word(self, node: Value, place: int) -> Value:
        """Return a word of a node."""
        at = (self.first_node + node) * NODE_WORDS + place
        word = self.scope.arrays["words"][at]
        return Value(word.build, word.build.sext(word.ir, I64))

    def has(self, node: Value, flag: int) -> Value:
        """Return whether a node has a flag."""
        build = self.scope.build
        return Value(build, build.and_(self.word(node, 1).ir, ir.Constant(I64, flag))) > 0

    def real(self, node: Value, place: int) -> Value:
        """Return a real number of a node."""
        at = (self.first_node + node) * NODE_REALS + place
        return self.scope.arrays["reals"][at]

    def leaf(self, child: Value) -> Value:
        """Return the value of leaf −1 − child."""
        minus_one = self.scope.number(-1)
        return self.scope.arrays["leaves"][self.first_leaf + (minus_one - child)]

    def reached(self, node: Value) -> Value:
        """Return the leaves that rows reach from an inner node."""
        return self.scope.rows("value", node * self.scope.width)

    def part(self, node: Value, k: Value) -> Value:
        """Return the place of the k-th part of a node's polynomial."""
        return (node * self.n_parts + k) * LANES

    def column(self, name: str, feature: Value) -> Value:
        """Return the place of a feature in ``x`` or ``phi``."""
        start = self.rows if name == "x" else self.sums
        return start + feature * self.scope.width


def _numeric(at: _TreeAt, node: Value, feature: Value) -> Value:
    """Return α of a comparison with a threshold."""
    x = at.scope.rows("x", at.column("x", feature))
    left, right = at.real(node, 1), at.real(node, 2)
    alpha = (x <= at.real(node, 0)).pick(left, right)
    alpha = x.is_nan().pick(at.has(node, NAN_LEFT).pick(left, right), alpha)
    return (absolute(x) <= ZERO).pick(at.has(node, ZERO_LEFT).pick(left, right), alpha)


def _categorical(at: _TreeAt, node: Value, feature: Value) -> None:
    """Store α of a membership, row by row; what no category can be is not a member."""
    scope, build = at.scope, at.scope.build
    place, words = at.word(node, 2), at.word(node, 3)
    end = Value(build, build.sitofp((words * 32).ir, F64))
    with counted(scope.number(0), scope.number(scope.width)) as lane:
        x = scope.arrays["x"][at.column("x", feature) + lane]
        is_inside = Value(build, build.and_((x > -1.0).ir, (x < end).ir))
        code = build.fptosi(is_inside.pick(x, x.like(0.0)).ir, I64)
        word = scope.arrays["bits"][place + Value(build, build.lshr(code, ir.Constant(I64, 5)))]
        shift = build.trunc(build.and_(code, ir.Constant(I64, 31)), I32)
        bit = build.trunc(build.lshr(word.ir, shift), ir.IntType(1))
        is_member = Value(build, build.and_(is_inside.ir, bit))
        alpha = is_member.pick(at.real(node, 1), at.real(node, 2))
        scope.arrays["alpha"][node * scope.width + lane] = alpha


def _decide(at: _TreeAt, node: Value) -> None:
    """Store α of the node's split: above 0 where a row goes to the first child."""
    scope, feature = at.scope, at.word(node, 0)
    when(
        at.has(node, IS_CATEGORICAL),
        lambda: _categorical(at, node, feature),
        lambda: scope.put_rows("alpha", node * scope.width, _numeric(at, node, feature)),
    )


def _silence(at: _TreeAt, node: Value) -> None:
    """Make α 0 where an ancestor's split on the same feature was already failed."""
    scope, place = at.scope, node * at.scope.width
    ancestor = at.word(node, 6)

    def silence() -> None:
        one = Value(scope.build, ir.Constant(F64, 1.0))
        sign = at.has(node, UNDER_FIRST).pick(one, one.like(-1.0))
        above = scope.rows("alpha", ancestor * scope.width) * sign
        alpha = scope.rows("alpha", place)
        scope.put_rows("alpha", place, (above > 0.0).pick(alpha, scope.zero()))

    when(ancestor < 0, lambda: None, silence)


def _down(at: _TreeAt, node: Value) -> None:
    """Decide, and hand P on to the children that are inner nodes."""
    _decide(at, node)
    _silence(at, node)
    scope, poly = at.scope, at.scope.arrays["poly"]
    first, second, table = at.word(node, 4), at.word(node, 5), at.word(node, 7)

    def hand_on(to_second: bool) -> None:
        alpha = scope.rows("alpha", node * scope.width)
        share = at.real(node, 3)
        with counted(scope.number(0), at.n_parts) as k:
            whole = poly.vector(at.part(node, k))
            part = whole * fma(scope.table(table, k), alpha, share)
            poly.put(at.part(first, k), part)
            if to_second:
                poly.put(at.part(second, k), whole - part)

    def to_inner() -> None:
        when(second < 0, lambda: hand_on(False), lambda: hand_on(True))

    when(first < 0, lambda: None, to_inner)


def _up(at: _TreeAt, node: Value) -> None:
    """Take G of the children, add to φ of the node's feature, and leave G of the node."""

    def leaves(first: Value, second: Value) -> None:
        v = at.leaf(first), at.leaf(second)
        _gather(at, node, lambda _: v, v)

    def leaf_second(first: Value, second: Value) -> None:
        v = at.leaf(second)
        _gather(at, node, lambda k: (_polynomial(at, first, k), v), (at.reached(first), v))

    def inner(first: Value, second: Value) -> None:
        reached = at.reached(first), at.reached(second)
        _gather(
            at, node, lambda k: (_polynomial(at, first, k), _polynomial(at, second, k)), reached
        )

    _by_children(at, node, leaves, leaf_second, inner)


def _reach(at: _TreeAt, node: Value) -> None:
    """Store the leaf that rows reach from a node, even if they do not pass it."""
    _by_children(
        at,
        node,
        lambda first, second: _choose(at, node, (at.leaf(first), at.leaf(second))),
        lambda first, second: _choose(at, node, (at.reached(first), at.leaf(second))),
        lambda first, second: _choose(at, node, (at.reached(first), at.reached(second))),
    )


def _by_children(
    at: _TreeAt,
    node: Value,
    leaves: Callable[[Value, Value], None],
    leaf_second: Callable[[Value, Value], None],
    inner: Callable[[Value, Value], None],
) -> None:
    """Branch on the kinds of a node's children; a leaf next to an inner node is second."""
    first, second = at.word(node, 4), at.word(node, 5)
    when(
        first < 0,
        lambda: leaves(first, second),
        lambda: when(second < 0, lambda: leaf_second(first, second), lambda: inner(first, second)),
    )


def _choose(at: _TreeAt, node: Value, reached: tuple[Value, Value]) -> None:
    """Store which of the leaves below its children rows reach from a node."""
    scope = at.scope
    alpha = scope.rows("alpha", node * scope.width)
    chosen = (alpha > 0.0).pick(*(v.repeated() if scope.width > 1 else v for v in reached))
    scope.put_rows("value", node * scope.width, chosen)


def _polynomial(at: _TreeAt, node: Value, k: Value) -> Value:
    return at.scope.arrays["poly"].vector(at.part(node, k))


def _gather(
    at: _TreeAt,
    node: Value,
    children: Callable[[Value], tuple[Value, Value]],
    reached: tuple[Value, Value],
) -> None:
    """Do the k loop of `_up` for one kind of children; `reached` are the leaves below them."""
    scope, poly = at.scope, at.scope.arrays["poly"]
    alpha = scope.rows("alpha", node * scope.width)
    share, table = at.real(node, 3), at.word(node, 7)
    total = variable(scope.zero())
    with counted(scope.number(0), at.n_parts) as k:
        g_first, g_second = children(k)
        difference = g_first - g_second
        here = at.part(node, k)
        weighted = scope.table(table + at.padded, k) * poly.vector(here)
        scope.add_up(total, weighted * difference, at.n_points)
        mean = fma(difference, share, g_second)
        step = scope.table(table, k) * alpha
        poly.put(here, fma(step, difference, mean).repeated())
    place = at.column("phi", at.word(node, 0))
    scope.put_rows("phi", place, fma(alpha, total.value, scope.rows("phi", place)))
    _choose(at, node, reached)


def _explain(at: _TreeAt) -> None:
    """Take one block of rows down and up one tree."""
    scope = at.scope
    zero = scope.number(0)
    one = Value(scope.build, ir.Constant(F64, 1.0)).repeated()
    with counted(zero, at.n_parts) as k:
        scope.arrays["poly"].put(at.part(zero, k), one)
    with counted(zero, at.n_nodes) as node:
        _down(at, node)
    with backwards(at.n_nodes) as node:
        _up(at, node)
    _add_up(at)


def _predict(at: _TreeAt) -> None:
    """Take one block of rows down and up one tree, for the leaf alone."""
    with counted(at.scope.number(0), at.n_nodes) as node:
        _decide(at, node)
    with backwards(at.n_nodes) as node:
        _reach(at, node)
    _add_up(at)


def _add_up(at: _TreeAt) -> None:
    """Add the leaf that rows reach from the root to their prediction."""
    scope, zero = at.scope, at.scope.number(0)

    def add(value: Value) -> None:
        scope.put_rows("raw", at.raw, scope.rows("raw", at.raw) + value)

    when(
        at.n_nodes > 0,
        lambda: add(scope.rows("value", zero)),
        lambda: add(at.leaf(scope.number(-1))),
    )


def _write(module: ir.Module, name: str, width: int, walk: Callable[[_TreeAt], None]) -> None:
    """Write one function: tiles of blocks, each through all trees.

    Its one argument points to the integers and addresses it works on: a call with fifteen
    arguments takes longer to prepare than half of the trees.
    """
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64.as_pointer()]), name)
    entry, start = function.append_basic_block("entry"), function.append_basic_block("start")
    build = ir.IRBuilder(entry)
    build.branch(start)
    build.position_at_end(start)
    order = Array(build, function.args[0])
    given = [
        order[Value(build, ir.Constant(I64, i))] for i in range(len(_INTEGERS) + len(_POINTERS))
    ]
    numbers = dict(zip(_INTEGERS, given, strict=False))
    arrays = {
        name: Array(build, build.inttoptr(address.ir, kind.as_pointer()))
        for (name, kind), address in zip(_POINTERS.items(), given[len(_INTEGERS) :], strict=True)
    }
    scope = _Scope(build, width, numbers, arrays)
    zero, n_blocks = scope.number(0), numbers["n_blocks"]
    with counted(zero, n_blocks, TILE) as tile, counted(zero, numbers["n_trees"]) as tree:
        end = tile + TILE
        stop = (end < n_blocks).pick(end, n_blocks)
        with counted(tile, stop) as block:
            walk(_tree_at(scope, tree, block))
    build.ret_void()


def _tree_at(scope: _Scope, tree: Value, block: Value) -> _TreeAt:
    n_nodes, k, vectors, node, leaf, booster = (
        scope.arrays["trees"][tree * TREE_WORDS + i] for i in range(TREE_WORDS)
    )
    rows = block * scope.numbers["n_features"] * scope.width
    return _TreeAt(
        scope,
        n_nodes,
        k,
        k if scope.width > 1 else vectors,
        vectors * LANES,
        node,
        leaf,
        rows,
        rows,
        (booster * scope.numbers["n_blocks"] + block) * scope.width,
    )


_WALKS: dict[str, Callable[[_TreeAt], None]] = {
    "block": _explain,
    "single": _explain,
    "block_raw": _predict,
    "single_raw": _predict,
}


@dataclass(frozen=True)
class Compiled:
    """The functions in memory.

    Attributes
    ----------
    engine : object
        Owns the machine code; it lives as long as this.
    block, single : callable
        Explain and predict `LANES` rows at a time; one row at a time.
    block_raw, single_raw : callable
        Only predict.
    """

    engine: Any
    block: Callable[..., None]
    single: Callable[..., None]
    block_raw: Callable[..., None]
    single_raw: Callable[..., None]


@lru_cache(maxsize=1)
def compiled() -> Compiled:
    """Compile for this processor, once per process; about a quarter of a second.

    Raises
    ------
    RuntimeError
        LLVM cannot produce code here.
    """
    return compiled_for(llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())


def compiled_for(processor: str, features: str) -> Compiled:
    """Compile for a processor as LLVM names it; any gives the same bits, at its own speed.

    Without a fused multiply-add in hardware, the C library's is used: correct, but slow.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = ir.Module("treeshap")
    for name, walk in _WALKS.items():
        _write(module, name, LANES if name.startswith("block") else 1, walk)
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(cpu=processor, features=features, opt=3)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(2))
    passes.getModulePassManager().run(parsed, passes)
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    found = {name: prototype(engine.get_function_address(name)) for name in _WALKS}
    return Compiled(engine, **found)


@dataclass(frozen=True)
class _Workspace:
    """Working memory of some rows, and the argument array that points to it.

    Attributes
    ----------
    x, phi, raw : numpy.ndarray
        (blocks, features, width) rows and sums, (boosters, blocks · width) predictions.
    sums : numpy.ndarray
        The memory of `phi` and `raw`, flat.
    order : numpy.ndarray
        Argument of the compiled function; must outlive the call, as must `memory`.
    address : int
        Address of `order`.
    """

    memory: np.ndarray
    x: np.ndarray
    phi: np.ndarray
    raw: np.ndarray
    sums: np.ndarray
    order: np.ndarray
    address: int


def _workspace(forest: Forest, n_blocks: int, width: int) -> _Workspace:
    """Return zeroed working memory for `n_blocks` times `width` rows."""
    shape = (n_blocks, forest.n_features, width)
    sizes = {
        "x": math.prod(shape),
        "alpha": forest.n_nodes * width,
        "value": forest.n_nodes * width,
        "poly": forest.n_nodes * -(-forest.n_points // LANES) * LANES * LANES,
        "phi": math.prod(shape),
        "raw": forest.n_boosters * n_blocks * width,
    }
    memory, starts = _aligned(sizes)
    tables = (
        forest.trees,
        forest.words,
        forest.reals,
        forest.bits,
        forest.leaves,
        forest.tables,
    )
    numbers = [n_blocks, len(forest.trees) // TREE_WORDS, forest.n_features]
    places = [memory.ctypes.data + 8 * start for start in starts.values()]
    order = np.array([*numbers, *(table.ctypes.data for table in tables), *places], dtype=np.int64)
    return _Workspace(
        memory,
        memory[: sizes["x"]].reshape(shape),
        memory[starts["phi"] :][: sizes["phi"]].reshape(shape),
        memory[starts["raw"] :][: sizes["raw"]].reshape(forest.n_boosters, -1),
        memory[starts["phi"] :],
        order,
        order.ctypes.data,
    )


class _OneRow(threading.local):
    """Working memory of each thread for a single row, allocated once."""

    def __init__(self, forest: Forest) -> None:
        self.workspace = _workspace(forest, 1, 1)


@dataclass(frozen=True)
class Kernel:
    """The compiled passes bound to one forest; safe to call from several threads.

    Attributes
    ----------
    forest : Forest
        The tables.
    functions : Compiled
        The code.
    """

    forest: Forest
    functions: Compiled

    @cached_property
    def _one_row(self) -> _OneRow:
        return _OneRow(self.forest)

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return contributions summed over boosters, and the raw log-odds of each.

        Parameters
        ----------
        rows : numpy.ndarray
            (rows, features) float64.

        Returns
        -------
        tuple of numpy.ndarray
            (rows, features) and (boosters, rows).
        """
        n = len(rows)
        if n == 1:
            return self._single(rows)
        # a block of two rows already costs less than the two one by one
        if n % LANES != 1:
            return self._blocks(rows)
        parts = self._blocks(rows[:-1]), self._single(rows[-1:])
        phi, raw = (list(item) for item in zip(*parts, strict=True))
        return np.concatenate(phi), np.concatenate(raw, axis=1)

    def raw(self, rows: np.ndarray) -> np.ndarray:
        """Return the raw log-odds of each booster, (boosters, rows), and nothing else."""
        if len(rows) == 1:
            workspace = self._laid_out(rows)
            self.functions.single_raw(workspace.address)
            return workspace.raw.copy()
        workspace = _workspace(self.forest, -(-len(rows) // LANES), LANES)
        _interleave(rows, workspace.x)
        self.functions.block_raw(workspace.address)
        return workspace.raw[:, : len(rows)]

    def _laid_out(self, rows: np.ndarray) -> _Workspace:
        """Return this thread's workspace with one row on it."""
        workspace = self._one_row.workspace
        workspace.x[0, :, 0] = rows[0]
        workspace.sums.fill(0.0)
        return workspace

    def _single(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        workspace = self._laid_out(rows)
        self.functions.single(workspace.address)
        return workspace.phi[:, :, 0].copy(), workspace.raw.copy()

    def _blocks(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        forest = self.forest
        workspace = _workspace(forest, -(-len(rows) // LANES), LANES)
        _interleave(rows, workspace.x)
        self.functions.block(workspace.address)
        together = workspace.phi.transpose(0, 2, 1).reshape(-1, forest.n_features)
        return together[: len(rows)], workspace.raw[:, : len(rows)]


def _aligned(sizes: Mapping[str, int]) -> tuple[np.ndarray, dict[str, int]]:
    """Return zeros and where each of some arrays begins in them, all on cache lines.

    A vector that crosses a cache line costs two loads.
    """
    line = CACHE_LINE // 8
    starts, end = {}, 0
    for name, size in sizes.items():
        starts[name] = end
        end += -(-size // line) * line
    space = np.zeros(end + line)
    shift = -space.ctypes.data % CACHE_LINE // 8
    return space[shift : shift + end], starts


def _interleave(rows: np.ndarray, blocks: np.ndarray) -> None:
    """Write rows into (blocks, features, width)."""
    _, n_features, width = blocks.shape
    whole = len(rows) // width
    blocks[:whole] = rows[: whole * width].reshape(whole, width, n_features).transpose(0, 2, 1)
    if whole < len(blocks):
        blocks[whole, :, : len(rows) - whole * width] = rows[whole * width :].T
