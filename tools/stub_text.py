"""Pieces of a stub file: formatted declarations, and what a module's source declares by itself."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

LINE: Final = 100  # the formatter's width, so that it leaves the stubs alone
INDENT: Final = "    "


def declaration(name: str, parameters: Sequence[str], returns: str, doc: str | None) -> str:
    """``def name(...) -> returns:`` with its docstring as the body, laid out as formatted."""
    head, tail = f"def {name}(", f") -> {returns}:"
    joined = ", ".join(parameters)
    body = f"\n{docstring(doc)}" if doc else " ..."
    if len(head + joined + tail) + (0 if doc else len(body)) <= LINE:
        return head + joined + tail + body
    if len(INDENT + joined) <= LINE:
        return f"{head}\n{INDENT}{joined}\n{tail}{body}"
    return "\n".join([head, *(f"{INDENT}{p}," for p in parameters), tail + body])


def docstring(text: str) -> str:
    """An indented docstring from a raw ``__doc__``."""
    lines = inspect.cleandoc(text).splitlines()
    if len(lines) == 1:
        return f'{INDENT}"""{lines[0]}"""'
    return textwrap.indent("\n".join(['"""' + lines[0], *lines[1:], '"""']), INDENT)


def wrapped_names(head: str, names: Iterable[str], close: str) -> str:
    """``head`` + quoted names + ``close``, one per line as the formatter would."""
    return "\n".join([head, *(f'{INDENT}"{name}",' for name in names), close])


class Imports:
    """The imports a stub needs: told what it may use, prints what its text mentions."""

    def __init__(self) -> None:
        self._module_of: dict[str, str] = {}

    def offer(self, module: str, *names: str) -> None:
        """``from module import names`` where a name turns out to be used."""
        self._module_of.update(dict.fromkeys(names, module))

    def text(self, body: str, exported: Iterable[str]) -> str:
        """Import lines for what ``body`` mentions outside its docstrings, and for ``exported``."""
        code = re.sub(r'""".*?"""', "", body, flags=re.S)
        used = set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", code)) | set(exported)
        groups: dict[str, list[str]] = defaultdict(list)
        for name, module in self._module_of.items():
            if name in used:
                groups[module].append(name)
        ours = sorted(m for m in groups if m.startswith("tenzing"))
        theirs = sorted(m for m in groups if not m.startswith("tenzing"))
        blocks = ["\n".join(_import(m, groups[m]) for m in part) for part in (theirs, ours) if part]
        return "\n\n".join(blocks)


def _import(module: str, names: Iterable[str]) -> str:
    ordered = sorted(names, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    line = f"from {module} import {', '.join(ordered)}"
    if len(line) <= LINE:
        return line
    return "\n".join([f"from {module} import (", *(f"{INDENT}{n}," for n in ordered), ")"])


def static_declarations(source: Path, imports: Imports) -> dict[str, str]:
    """Public names that a module declares in its own source, as stub text, in source order."""
    found: dict[str, str] = {}
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            imports.offer(node.module, *(a.name for a in node.names if a.asname is None))
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            found[node.name] = _function(node)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found[node.name] = _class(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            found.update(_assignment(node))
    return found


def _function(node: ast.FunctionDef) -> str:
    returns = ast.unparse(node.returns) if node.returns else "None"
    return declaration(node.name, _parameters(node.args), returns, ast.get_docstring(node))


def _parameters(arguments: ast.arguments) -> list[str]:
    """Parameters with defaults; only positional-or-keyword ones are declared in the surface."""
    missing: list[ast.expr | None] = [None] * (len(arguments.args) - len(arguments.defaults))
    parts = []
    for argument, default in zip(arguments.args, [*missing, *arguments.defaults], strict=True):
        text = argument.arg
        if argument.annotation is not None:
            text += f": {ast.unparse(argument.annotation)}"
        if default is not None:
            text += f"{' = ' if argument.annotation else '='}{ast.unparse(default)}"
        parts.append(text)
    return parts


def _class(node: ast.ClassDef) -> str:
    members = [docstring(doc)] if (doc := ast.get_docstring(node)) else []
    attributes: dict[str, str] = {}
    methods = []
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            methods.append(textwrap.indent(_function(item), INDENT))
            attributes |= _attributes(item) if item.name == "__init__" else {}
        elif isinstance(item, ast.Assign):
            methods.append(INDENT + ast.unparse(item))
    members += [f"{INDENT}{name}: {annotation}" for name, annotation in attributes.items()]
    bases = f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""
    return "\n".join([f"class {node.name}{bases}:", *_spaced(members), *methods])


def _spaced(members: list[str]) -> list[str]:
    return [members[0], "", *members[1:]] if members and members[0].endswith('"""') else members


def _attributes(init: ast.FunctionDef) -> dict[str, str]:
    """``self.x = parameter`` has the parameter's type."""
    types = {a.arg: ast.unparse(a.annotation) for a in init.args.args if a.annotation}
    found = {}
    for node in ast.walk(init):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
            for target in node.targets:
                if isinstance(target, ast.Attribute) and node.value.id in types:
                    found[target.attr] = types[node.value.id]
    return {name: text for name, text in found.items() if not name.startswith("_")}


def _assignment(node: ast.Assign | ast.AnnAssign) -> dict[str, str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    names = [t.id for t in targets if isinstance(t, ast.Name) and not t.id.startswith("_")]
    value = node.value
    if value is None:
        return {}
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return {name: f"{name}: {value.func.id}" for name in names}
    if isinstance(value, ast.Attribute):
        return {name: f"{name}: Final = {ast.unparse(value)}" for name in names}
    if isinstance(value, ast.Name):
        return {name: f"{name} = {value.id}" for name in names}
    return {}
