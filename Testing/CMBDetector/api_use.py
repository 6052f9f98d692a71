"""What a Python file uses of Qt, CTK and 3D Slicer, found in its syntax tree.

Types are inferred only where they are plain to see: widgets of the panel (``ui.name``), objects
made by ``qt.X()``, results of functions whose result published_api.py tells, names and ``self``
attributes that these are assigned to or that loop over them. The rest is found as names of
attributes without type.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from published_api import CLASSES, NAMESPACES

Types = frozenset[str]
_NONE: Types = frozenset()


@dataclass(frozen=True)
class Use:
    """An attribute or a signal of a class; ``owner`` is empty where the class is not known."""

    owner: str
    name: str
    where: str
    isSignal: bool = False

    def __str__(self) -> str:
        kind = "signal" if self.isSignal else "name"
        return f"{self.where}: {kind} '{self.name}' of {self.owner or 'some class'}"


def widgetClasses(ui: Path) -> dict[str, str]:
    """Class of every widget in a .ui file by its name."""
    root = ElementTree.parse(ui).getroot()
    return {w.get("name", ""): w.get("class", "") for w in root.iter("widget")}


def usesOfUi(ui: Path) -> Iterator[Use]:
    """Properties, signals and slots that a .ui file uses of its widgets and layouts."""
    root = ElementTree.parse(ui).getroot()
    classes = widgetClasses(ui)
    for tag in ("widget", "layout"):
        for element in root.iter(tag):
            for prop in element.findall("property"):
                # Dynamic properties are marked by stdset; margins are what .ui files call them.
                if prop.get("stdset") != "0" and not prop.get("name", "").endswith("Margin"):
                    yield Use(element.get("class", ""), prop.get("name", ""), ui.name)
    for wire in root.iter("connection"):
        texts = {part.tag: part.text or "" for part in wire}
        yield Use(classes[texts["sender"]], texts["signal"], ui.name, isSignal=True)
        yield Use(classes[texts["receiver"]], texts["slot"].split("(")[0], ui.name)


def usesOfFile(path: Path, widgets: Mapping[str, str]) -> list[Use]:
    """Everything that a Python file uses."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    reader = _Reader(path.name, widgets)
    reader.learn(tree)
    reader.visit(tree)
    return reader.uses


class _Reader(ast.NodeVisitor):
    def __init__(self, name: str, widgets: Mapping[str, str]) -> None:
        self._name, self._widgets = name, widgets
        self._scope: dict[str, Types] = {}
        self._members: dict[str, Types] = {}
        self.uses: list[Use] = []

    def learn(self, tree: ast.AST) -> None:
        """What ``self`` attributes are, wherever they are assigned."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Attribute) and self._types(node.value):
                        key = ast.unparse(target)
                        self._members[key] = self._members.get(key, _NONE) | self._types(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, self._scope = self._scope, dict(self._scope)
        for statement in ast.walk(node):
            if isinstance(statement, ast.Assign):
                for target in statement.targets:
                    self._bind(target, statement.value)
            elif isinstance(statement, ast.For | ast.comprehension):
                self._bindLoop(statement.target, statement.iter)
        self.generic_visit(node)
        self._scope = outer

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr in ("connect", "disconnect"):
            signature = node.args[0] if node.args else None
            if isinstance(signature, ast.Constant) and isinstance(signature.value, str):
                for owner in self._types(function.value) or {""}:
                    self._add(owner, signature.value, node, isSignal=True)
            self.visit(function.value)
            for argument in node.args:
                self.visit(argument)
            return
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        path = ast.unparse(node.value)
        if path in NAMESPACES or path in ("qt", "ctk", "slicer"):
            self._add(path, node.attr, node)
        elif path.startswith("qt.") and path[3:] in CLASSES:
            self._add(path[3:], node.attr, node)
        elif not self._isWidget(node):
            for owner in self._types(node.value) or {""}:
                self._add(owner, node.attr, node)
        self.generic_visit(node)

    def _add(self, owner: str, name: str, node: ast.AST, isSignal: bool = False) -> None:
        where = f"{self._name}:{getattr(node, 'lineno', 0)}"
        self.uses.append(Use(owner, name, where, isSignal))

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, other in zip(target.elts, value.elts, strict=False):
                self._bind(one, other)
        elif isinstance(target, ast.Name):
            self._scope[target.id] = self._types(value)

    def _bindLoop(self, target: ast.expr, values: ast.expr) -> None:
        if not isinstance(values, ast.Tuple | ast.List):
            return
        for value in values.elts:
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = list(zip(target.elts, value.elts, strict=False))
            for one, other in pairs:
                if isinstance(one, ast.Name):
                    known = self._scope.get(one.id, _NONE)
                    self._scope[one.id] = known | self._types(other)

    def _isWidget(self, node: ast.Attribute) -> bool:
        return ast.unparse(node.value).split(".")[-1] in ("ui", "_ui") and (
            node.attr in self._widgets
        )

    def _types(self, node: ast.expr) -> Types:
        if isinstance(node, ast.Name):
            return self._scope.get(node.id, _NONE)
        if isinstance(node, ast.IfExp):
            return self._types(node.body) | self._types(node.orelse)
        if isinstance(node, ast.Attribute):
            if self._isWidget(node):
                return frozenset({self._widgets[node.attr]})
            return self._members.get(ast.unparse(node)) or typesOfPath(ast.unparse(node))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            path, name = ast.unparse(node.func.value), node.func.attr
            if path in ("qt", "ctk", "slicer") and name in CLASSES:
                return frozenset({name})
            owners = self._types(node.func.value) or typesOfPath(path)
            results = {CLASSES[o].result(name) for o in owners if o in CLASSES}
            return frozenset(results - {""})
        return _NONE


def typesOfPath(path: str) -> Types:
    """``slicer.app`` is an object; classes name their static functions."""
    if path in NAMESPACES:
        return frozenset({NAMESPACES[path]}) if NAMESPACES[path] else _NONE
    name = path.removeprefix("qt.")
    return frozenset({name}) if path.startswith("qt.") and name in CLASSES else _NONE
