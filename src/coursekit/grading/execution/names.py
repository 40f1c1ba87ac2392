"""Which names a cell uses and binds, and which of them are the instructor's: read from the text alone."""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager

DYNAMIC = {"globals", "locals", "vars", "dir", "eval", "exec"}
IMPORTS = (ast.Import, ast.ImportFrom)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
BUILTINS = frozenset(vars(builtins))


def python(source: str) -> str:
    """A cell as plain Python: magics and shell commands become calls."""
    return TransformerManager().transform_cell(source)


def parse(source: str) -> list[ast.stmt]:
    """A cell's statements; none where it is no Python."""
    try:
        return ast.parse(python(source)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def used(source: str) -> set[str]:
    """Names that a cell takes from the notebook's namespace, inside functions too."""
    try:
        return set(_globals(symtable.symtable(python(source), "cell", "exec")))
    except (SyntaxError, ValueError):  # a cell may await at its top, which a module may not
        return {node.id for part in parse(source) for node in ast.walk(part) if isinstance(node, ast.Name)}


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


@dataclass(frozen=True, eq=False)
class Statement:
    """One top-level statement of the instructor's.

    position: number of its cell.   binds, mentions: names that it binds, and all that occur in it.
    """

    position: int
    code: ast.stmt
    binds: frozenset[str]
    mentions: frozenset[str]


class Instructor:
    """What the instructor's notebook says about names.

    answers: names that the student is to bind, as the instructor's own solutions do.
    tools: the statements of locked cells, and every import, in order: what a test may rely on.
    """

    def __init__(self, source: dict[str, Any]) -> None:
        self.answers: set[str] = set()
        self.tools: list[Statement] = []
        self._positions: dict[str, int] = {}
        for position, cell in enumerate(source["cells"]):
            mark = cell["metadata"].get("nbgrader") or {}
            if mark.get("grade_id"):
                self._positions[mark["grade_id"]] = position
            if cell["cell_type"] == "code":
                self._read(position, _text(cell), mark)

    def modules(self) -> set[str]:
        """Top-level modules that the notebook imports anywhere."""
        found: set[str] = set()
        for tool in self.tools:
            if isinstance(tool.code, ast.Import):
                found |= {alias.name for alias in tool.code.names}
            elif isinstance(tool.code, ast.ImportFrom) and tool.code.module and not tool.code.level:
                found.add(tool.code.module)
        return found

    def needed(self, grade_id: str, names: set[str]) -> list[Statement]:
        """The tools above a cell that these names depend on, in order."""
        position = self._positions.get(grade_id, len(self._positions) + 10**6)
        names, chosen = set(names), []
        for tool in reversed([tool for tool in self.tools if tool.position <= position]):
            changes = not isinstance(tool.code, (*IMPORTS, *DEFINITIONS))  # it may change what it mentions
            concerned = tool.binds & names or changes and tool.mentions & names - BUILTINS
            if concerned and not self._is_students(tool):
                chosen.append(tool)
                names |= tool.mentions
        return chosen[::-1]

    def _is_students(self, tool: Statement) -> bool:
        """Whether a statement's result rests on what the student wrote; a definition's does not yet."""
        return not isinstance(tool.code, DEFINITIONS) and bool(tool.mentions & self.answers)

    def _read(self, position: int, text: str, mark: dict[str, Any]) -> None:
        test = mark.get("grade") and not mark.get("solution")
        locked = mark.get("locked") and not mark.get("solution") and not test
        for statement in parse(text):
            names = frozenset(bound(statement))
            if isinstance(statement, IMPORTS) or locked:
                mentions = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
                self.tools.append(Statement(position, statement, names, frozenset(mentions | names)))
            elif not test:
                self.answers |= names


def _text(cell: dict[str, Any]) -> str:
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
