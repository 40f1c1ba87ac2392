"""Which names a cell uses and binds, and which of them are the instructor's: read from the text alone."""

from __future__ import annotations

import ast
import builtins
import re
import symtable
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager

DYNAMIC = {"globals", "locals", "vars", "dir", "eval", "exec"}
IMPORTS = (ast.Import, ast.ImportFrom)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
BUILTINS = frozenset(vars(builtins))
_PLOTTING = frozenset(("plt", "pyplot", "pylab"))
_WORD = re.compile(r"[^\W\d]\w*")


@lru_cache(maxsize=500)
def python(source: str) -> str:
    """A cell as plain Python: magics and shell commands become calls."""
    return TransformerManager().transform_cell(source)


@lru_cache(maxsize=500)
def parse(source: str) -> list[ast.stmt]:
    """A cell's statements; none where it is no Python."""
    try:
        return ast.parse(python(source)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


@lru_cache(maxsize=500)
def used(source: str) -> frozenset[str]:
    """Names that a cell takes from the notebook's namespace, inside functions and magics too."""
    try:
        text = python(source)
        names = set(_globals(symtable.symtable(text, "cell", "exec")))
    except (SyntaxError, ValueError):  # a cell may await at its top, which a module may not
        names = {node.id for part in parse(source) for node in ast.walk(part) if isinstance(node, ast.Name)}
    return frozenset(names.union(word for part in parse(source) for word in _words_of_magics(part)))


def _words_of_magics(statement: ast.stmt) -> Iterator[str]:
    """What may be names in the text of a magic or of a shell command."""
    for node in ast.walk(statement):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython"))), args=args):
                texts = (argument.value for argument in args if isinstance(argument, ast.Constant))
                yield from (word for text in texts for word in _WORD.findall(str(text)))


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    top = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (top or symbol.is_global()) or top and symbol.is_assigned():
            yield symbol.get_name()
    for child in table.get_children():
        yield from _globals(child)


def bound(statement: ast.AST) -> Iterator[str]:
    """Names that a statement binds where it stands, not inside of functions and classes."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in aliases)
        case ast.Name(id=name, ctx=ast.Store()):
            yield name
        case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            return
        case _:
            for child in ast.iter_child_nodes(statement):
                yield from bound(child)


def changed(statement: ast.stmt) -> Iterator[str]:
    """Names whose values a statement changes, or rebinds from inside of a function."""
    for node in ast.walk(statement):
        match node:
            case ast.Global(names=names):
                yield from names
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) if method in _CHANGING:
                yield name
            case ast.Subscript(value=target, ctx=ast.Store() | ast.Del()):
                yield from _root(target)
            case ast.Attribute(value=target, ctx=ast.Store() | ast.Del()):
                yield from _root(target)
            case ast.AugAssign(target=ast.Name(id=name)):
                yield name


_CHANGING = frozenset(
    "append extend insert pop popitem remove clear update setdefault add discard sort reverse appendleft "
    "extendleft popleft rotate fill resize put subtract write".split()
)


def handed_to(statement: ast.stmt, functions: set[str]) -> Iterator[str]:
    """Names whose values a statement hands to one of these functions, when it is run itself."""
    if isinstance(statement, DEFINITIONS):
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Call) and functions.intersection(_root(node.func)):
            yield from (argument.id for argument in node.args if isinstance(argument, ast.Name))


def _root(target: ast.expr) -> Iterator[str]:
    while isinstance(target, (ast.Subscript, ast.Attribute)):
        target = target.value
    if isinstance(target, ast.Name):
        yield target.id


@dataclass(frozen=True, eq=False)
class Statement:
    """One top-level statement of the instructor's.

    position: number of its cell.   binds, mentions: names that it binds, and all that occur in it.
    answer, locked: whether it stands in a cell that the student answers, or may not change.
    """

    position: int
    code: ast.stmt
    binds: frozenset[str]
    mentions: frozenset[str]
    answer: bool
    locked: bool


class Instructor:
    """What the instructor's notebook says about names.

    handed_in: the student's cells.  Of the cells that are not nbgrader's, those that the student has left as
    they were count as locked.
    answers: names that the student is to bind or change, as the instructor's own solutions do.
    mentions: names that occur in the instructor's solutions.
    tools: the statements of locked cells, and every import, in order: what a test may rely on.
    """

    def __init__(self, source: dict[str, Any], handed_in: Sequence[dict[str, Any]] = ()) -> None:
        self.answers: set[str] = set()
        self.mentions: set[str] = set()
        self.tools: list[Statement] = []
        self._positions: dict[str, int] = {}
        self._kept = {_text(cell) for cell in handed_in if cell["cell_type"] == "code" and not _mark(cell)}
        self._modules: set[str] = set()
        answers: list[ast.stmt] = []
        for position, cell in enumerate(source["cells"]):
            mark = _mark(cell)
            if mark.get("grade_id"):
                self._positions[mark["grade_id"]] = position
            if cell["cell_type"] == "code":
                answers += self._read(position, _text(cell), mark)
        for statement in answers:
            self.answers |= set(handed_to(statement, self.answers)) - self._modules

    def modules(self) -> set[str]:
        """Top-level modules that the notebook imports anywhere."""
        found: set[str] = set()
        for tool in self.tools:
            if isinstance(tool.code, ast.Import):
                found |= {alias.name for alias in tool.code.names}
            elif isinstance(tool.code, ast.ImportFrom) and tool.code.module and not tool.code.level:
                found.add(tool.code.module)
        return found

    def needed(self, grade_id: str, names: set[str], theirs: set[str]) -> list[Statement]:
        """The tools above a cell that these names depend on, in order.

        theirs: names that the student has.  An import of the solution's holds if the student has it too.
        """
        position = self._positions.get(grade_id, len(self._positions) + 10**6)
        names, chosen = set(names), []
        for tool in reversed([tool for tool in self.tools if tool.position <= position]):
            if tool.answer and not tool.binds & theirs:
                continue
            if self._is_concerned(tool, names) and not self._is_students(tool):
                chosen.append(tool)
                names |= tool.mentions
        return chosen[::-1]

    def _is_concerned(self, tool: Statement, names: set[str]) -> bool:
        """Whether a statement binds one of these names, or may change what one of them means."""
        if tool.binds & {*names, "*"}:
            return True
        if isinstance(tool.code, (*IMPORTS, *DEFINITIONS)):
            return False
        # An unlocked cell that only calls libraries, to show something, does nothing for a test.
        others = names - BUILTINS - (set() if tool.locked else self._modules)
        return bool(tool.mentions & others) and not tool.mentions & _PLOTTING

    def _is_students(self, tool: Statement) -> bool:
        """Whether a statement's result rests on what the student wrote; a definition's does not yet."""
        return not isinstance(tool.code, DEFINITIONS) and bool(tool.mentions & self.answers)

    def _read(self, position: int, text: str, mark: dict[str, Any]) -> list[ast.stmt]:
        """Learn from a cell; its statements, if it is the student's."""
        test = bool(mark.get("grade") and not mark.get("solution"))
        kept = not mark.get("solution") and (mark.get("locked") or text in self._kept)
        statements, outer = parse(text), used(text)
        for statement in statements:
            if isinstance(statement, IMPORTS):
                self._modules |= set(bound(statement))
            elif test or not kept:
                continue
            self._add_tool(position, statement, answer=not (test or kept), locked=bool(mark.get("locked")))
        if test or kept:
            return []
        self.mentions |= outer
        for statement in statements:
            self.answers |= set(() if isinstance(statement, IMPORTS) else bound(statement))
            self.answers |= set(changed(statement)) & outer - BUILTINS
        return statements

    def _add_tool(self, position: int, statement: ast.stmt, *, answer: bool, locked: bool) -> None:
        names = frozenset(bound(statement))
        mentions = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        self.tools.append(Statement(position, statement, names, names.union(mentions), answer, locked))


def _mark(cell: dict[str, Any]) -> dict[str, Any]:
    return cell["metadata"].get("nbgrader") or {}


def _text(cell: dict[str, Any]) -> str:
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
