# SPDX-License-Identifier: Apache-2.0
"""Every small mistake that could be made in a module, one at a time, as changed source text."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

Node = TypeVar("Node", bound=ast.AST)

OPPOSITE: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.GtE, ast.LtE),
    ast.LtE: (ast.Gt, ast.Lt),
    ast.Gt: (ast.LtE, ast.GtE),
    ast.GtE: (ast.Lt, ast.Gt),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
NOT_CODE = {"annotation", "returns", "decorator_list", "bases", "type_params"}

Change = tuple[str, ast.AST]


class Mutant(NamedTuple):
    """Where, what was done, and the module as it is then."""

    line: int
    what: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """All mutants of a module, each once."""
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    for mutant in _below(tree, tree):
        if mutant.source not in seen:
            seen.add(mutant.source)
            yield mutant


def _below(tree: ast.Module, parent: ast.AST) -> Iterator[Mutant]:
    for field, value in ast.iter_fields(parent):
        if field in NOT_CODE:
            continue
        children = value if isinstance(value, list) else [value]
        for index, child in enumerate(children):
            if not isinstance(child, ast.AST) or _is_for_readers(child):
                continue
            for what, instead in _changes(child):
                _set(parent, field, index, instead)
                changed = ast.unparse(ast.fix_missing_locations(tree))
                _set(parent, field, index, child)
                yield Mutant(getattr(child, "lineno", 0), what, changed)
            yield from _below(tree, child)


def _set(parent: ast.AST, field: str, index: int, node: ast.AST) -> None:
    value = getattr(parent, field)
    if isinstance(value, list):
        value[index] = node
    else:
        setattr(parent, field, node)


def _is_for_readers(node: ast.AST) -> bool:
    """Documentation, types, imports, and the words of messages."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) in {"TYPE_CHECKING", "__slots__"}
    return isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr)


def _changes(node: ast.AST) -> Iterator[Change]:
    text = ast.unparse(node).partition("\n")[0][:60]
    for kind, change in CHANGES.items():
        if isinstance(node, kind):
            for what, instead in change(node):
                yield what[:90], instead
    if isinstance(node, ast.Continue | ast.Break | ast.AugAssign | ast.Expr | ast.Raise):
        yield f"no {text}", ast.Pass()


def _binary(node: ast.BinOp) -> Iterator[Change]:
    if isinstance(node.op, ast.BitOr):
        for name, rest in _without_one(_flags(node)):
            yield f"without {name}", _joined(rest)
    elif isinstance(node.op, ast.Add):
        yield "+ -> -", ast.BinOp(node.left, ast.Sub(), node.right)
    elif isinstance(node.op, ast.Sub):
        yield "- -> +", ast.BinOp(node.left, ast.Add(), node.right)


def _set_of(node: ast.Set) -> Iterator[Change]:
    if len(node.elts) > 1:
        for name, rest in _without_one(node.elts):
            yield f"set without {name}", ast.Set(rest)


def _comparison(node: ast.Compare) -> Iterator[Change]:
    if len(node.ops) == 1:
        for other in OPPOSITE[type(node.ops[0])]:
            changed = ast.Compare(node.left, [other()], node.comparators)
            yield f"{ast.unparse(node)} -> {ast.unparse(changed)}", changed


def _conditions(node: ast.BoolOp) -> Iterator[Change]:
    for name, rest in _without_one(node.values):
        kept = ast.BoolOp(node.op, rest) if len(rest) > 1 else rest[0]
        yield f"without the condition {name}", kept


def _negation(node: ast.UnaryOp) -> Iterator[Change]:
    if isinstance(node.op, ast.Not):
        yield f"without the not of {ast.unparse(node)}", node.operand


def _constant(node: ast.Constant) -> Iterator[Change]:
    if isinstance(node.value, bool):
        yield f"{node.value} -> {not node.value}", ast.Constant(not node.value)
    elif isinstance(node.value, int):
        yield f"{node.value} -> {node.value + 1}", ast.Constant(node.value + 1)


def _raising(node: ast.Raise) -> Iterator[Change]:
    if node.exc and "errno." in ast.unparse(node.exc):
        changed = _OtherErrno().visit(ast.parse(ast.unparse(node)).body[0])
        yield f"EPROTO in {ast.unparse(node)}", changed


class _OtherErrno(ast.NodeTransformer):
    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if ast.unparse(node).startswith("errno."):
            return ast.Attribute(node.value, "EPROTO")
        return node


def _call(node: ast.Call) -> Iterator[Change]:
    for keyword, rest in _without_one(node.keywords):
        yield f"{ast.unparse(node.func)} without {keyword}", ast.Call(node.func, node.args, rest)


def _branch(node: ast.If | ast.While) -> Iterator[Change]:
    if not isinstance(node.test, ast.Compare | ast.Constant):
        changed = type(node)(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
        yield f"{ast.unparse(node.test)}: negated", changed


def _choice(node: ast.IfExp) -> Iterator[Change]:
    yield f"{ast.unparse(node)}: the other way", ast.IfExp(node.test, node.orelse, node.body)


def _result(node: ast.Return) -> Iterator[Change]:
    if node.value and not isinstance(node.value, ast.Constant):
        yield f"None for {ast.unparse(node.value)}", ast.Return(ast.Constant(None))


CHANGES: dict[type[ast.AST], Callable[..., Iterator[Change]]] = {
    ast.BinOp: _binary,
    ast.Set: _set_of,
    ast.Compare: _comparison,
    ast.BoolOp: _conditions,
    ast.UnaryOp: _negation,
    ast.Constant: _constant,
    ast.Raise: _raising,
    ast.Call: _call,
    ast.If: _branch,
    ast.While: _branch,
    ast.IfExp: _choice,
    ast.Return: _result,
}
"""The kinds of mistakes; that a statement is missing is one more."""


def _flags(node: ast.expr) -> list[ast.expr]:
    """The operands of `a | b | c`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_flags(node.left), *_flags(node.right)]
    return [node]


def _joined(flags: list[ast.expr]) -> ast.expr:
    first, *rest = flags
    for flag in rest:
        first = ast.BinOp(first, ast.BitOr(), flag)
    return first


def _without_one(nodes: list[Node]) -> Iterator[tuple[str, list[Node]]]:
    for index, node in enumerate(nodes):
        yield ast.unparse(node), [*nodes[:index], *nodes[index + 1 :]]
