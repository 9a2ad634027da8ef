"""Reads the text that :mod:`tenzing.compiler.printer` writes."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final, NamedTuple, NoReturn

import ml_dtypes
import numpy as np

from tenzing.compiler.graph import (
    OPS,
    SHORT_NAMES,
    TF32,
    Alias,
    Graph,
    GraphError,
    Node,
    Op,
    TensorType,
    Value,
)
from tenzing.compiler.ops import Access, Constant, Fused
from tenzing.compiler.ops.window import Window
from tenzing.compiler.printer import element_bytes
from tenzing.compiler.verify import verify
from tenzing.errors import Loc

TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\r]+)|(?P<line>\n)|(?P<comment>\#[^\n]*)
    |(?P<access>\d+(?:x\d+)*@\d+(?:,\d+)*(?:\+\d+)?)|(?P<tile>\d+x\d+\b)
    |(?P<value>%(?:[\w.\-]+|"(?:[^"\\]|\\.)*"))|(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<number>-?(?:\d+\.?\d*(?:e[+-]?\d+)?|inf|nan)\b\.?)|(?P<arrow>->)
    |(?P<word>[A-Za-z_][\w.\-]*)|(?P<mark>[(){}\[\]:=,])""",
    re.VERBOSE,
)
DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    short: np.dtype(getattr(ml_dtypes, name, name)) for name, short in SHORT_NAMES.items()
} | {"tf32": TF32}
RECORDS: Final[Mapping[str, type]] = {"Window": Window}
LITERALS: Final[Mapping[str, Any]] = {"None": None, "True": True, "False": False}


class Token(NamedTuple):
    """A piece of the text with its place."""

    kind: str
    text: str
    line: int
    column: int


def parse(text: str, payloads: Mapping[str, bytes] | None = None, *, file: str = "<text>") -> Graph:
    """The graph that ``to_text`` printed, verified.

    ``payloads`` holds bytes of large constants by digest, beside those in the text. Raises
    GraphError with line and column.
    """
    return _Parser(text, dict(payloads or {}), file).read()


class _Parser:
    def __init__(self, text: str, payloads: dict[str, bytes], file: str) -> None:
        self.file, self.payloads = file, payloads
        self.scopes: dict[int, str] = {}
        self.tokens = self._split(text)
        self.at = 0

    # -- tokens -------------------------------------------------------------------------------

    def _split(self, text: str) -> list[Token]:
        tokens, at, line, start = [], 0, 1, 0
        while at < len(text):
            found = TOKEN.match(text, at)
            if found is None:
                self._fail(f"no graph text begins with {text[at]!r}",
                           Token("", text[at], line, at - start + 1))  # fmt: skip
            kind = found.lastgroup or ""
            if kind == "comment":
                self.scopes[line] = found.group()[1:].strip()
            elif kind == "line":
                line, start = line + 1, found.end()
            elif kind != "space":
                tokens.append(Token(kind, found.group(), line, at - start + 1))
            at = found.end()
        return [*tokens, Token("end", "the end of the text", line, at - start + 1)]

    def _fail(self, what: str, token: Token, allowed: object = None) -> NoReturn:
        raise GraphError(
            f"line {token.line}, column {token.column}: {what}", allowed=allowed,
            where=Loc(self.file, token.line, column=token.column - 1),
        )  # fmt: skip

    @property
    def now(self) -> Token:
        return self.tokens[self.at]

    def _take(self, *allowed: str) -> Token:
        """The next token, whose text or kind must be one of those allowed."""
        token = self.now
        if token.text not in allowed and token.kind not in allowed:
            self._fail(f"unexpected {token.text}", token, " or ".join(allowed))
        self.at += 1
        return token

    def _skip(self, text: str) -> bool:
        found = self.now.text == text and self.now.kind != "string"
        self.at += found
        return found

    def _list(self, end: str, item: Callable[[], Any]) -> list[Any]:
        """Items between commas up to ``end``, which is taken."""
        items: list[Any] = []
        while not self._skip(end):
            if items:
                self._take(",")
            items.append(item())
        return items

    # -- graphs -------------------------------------------------------------------------------

    def read(self) -> Graph:
        start = self.at
        self._graph_extent()
        self._payloads()
        self.at = start
        return verify(self._graph(), "after parsing")

    def _graph_extent(self) -> None:
        """Go behind the graphs: payloads, which nodes need, stand there."""
        while self.now.kind != "end" and self.now.text != "payload":
            self.at += 1

    def _payloads(self) -> None:
        while self._skip("payload"):
            name = self._take("word").text
            token = self._take("string")
            try:
                self.payloads[name] = base64.b64decode(json.loads(token.text), validate=True)
            except (binascii.Error, ValueError):
                self._fail("a payload is no base64", token)
        self._take("end")

    def _graph(self) -> Graph:
        self._take("graph")
        name = _plain(self._take("word", "string", "number").text)
        self._take("(")
        inputs = self._list(")", self._typed)
        scope = {value.name: value for value in inputs}
        self._take("{")
        parameters: list[Value] = []
        while self._skip("parameter"):
            parameters.append(self._typed())
        scope.update((value.name, value) for value in parameters)
        nodes, aliases = [], []
        while self.now.kind == "value":
            nodes.append(self._node(scope))
        while self._skip("alias"):
            self._take("output")
            number = int(self._take("number").text)
            self._take("->")
            aliases.append(Alias(number, _plain(self._take("value").text[1:])))
        self._take("return")
        outputs = self._list("}", lambda: self._use(scope))
        preparation = None
        if self._skip("prepared"):
            self._take("by")
            preparation = self._graph()
        return Graph(name, tuple(inputs), tuple(parameters), tuple(nodes), tuple(outputs),
                     tuple(aliases), preparation)  # fmt: skip

    def _typed(self) -> Value:
        name = _plain(self._take("value").text[1:])
        self._take(":")
        kind = self._type()
        return Value(name, kind.shape, kind.dtype)

    def _type(self) -> TensorType:
        token = self._take("word")
        if token.text not in DTYPES:
            self._fail(f"{token.text} is no dtype", token, ", ".join(DTYPES))
        self._take("[")
        sizes = self._list("]", lambda: int(self._take("number").text))
        return TensorType(tuple(sizes), DTYPES[token.text])

    def _use(self, scope: Mapping[str, Value]) -> Value:
        token = self._take("value")
        name = _plain(token.text[1:])
        if name not in scope:
            self._fail(f"%{name} is not defined before this", token)
        return scope[name]

    # -- nodes --------------------------------------------------------------------------------

    def _node(self, scope: dict[str, Value]) -> Node:
        first = self.now
        several = self.tokens[self.at + 1].text == ":"
        outputs: list[Value] = []
        if several:
            outputs = self._list("=", self._typed)
            name = ""
        else:
            name = _plain(self._take("value").text[1:])
            self._take("=")
        title = self._take("word")
        if title.text not in OPS:
            self._fail(f"{title.text} is no operation", title)
        self._take("(")
        inputs = self._list(")", lambda: self._use(scope))
        attrs = dict(self._list("}", self._attribute)) if self._skip("{") else {}
        if not several:
            self._take(":")
            kind = self._type()
            outputs = [Value(name, kind.shape, kind.dtype)]
        regions = []
        while self.now.text == "graph":
            regions.append(self._graph())
        op = self._op(title, attrs, regions, [value.type for value in outputs])
        scope.update((value.name, value) for value in outputs)
        return Node(op, tuple(inputs), tuple(outputs), scope=self.scopes.get(first.line, ""))

    def _attribute(self) -> tuple[str, Any]:
        name = self._take("word").text
        self._take("=")
        return name, self._content()

    def _content(self) -> Any:
        token = self._take("word", "number", "string", "access", "tile", "[")
        if token.text == "[":
            return tuple(self._list("]", self._content))
        if token.kind == "number":
            return _Number(token.text)
        if token.kind == "access":
            return _access(token.text)
        if token.kind == "tile":
            return tuple(map(int, token.text.split("x")))
        if token.kind == "string":
            return json.loads(token.text)
        if token.text in RECORDS and self._skip("("):
            parts = dict(self._list(")", self._attribute))
            return RECORDS[token.text](**{k: _settled(v) for k, v in parts.items()})
        if token.text in DTYPES and self.now.text == "[":
            self.at -= 1
            return self._type()
        return LITERALS.get(token.text, _Word(token.text))

    def _op(
        self, title: Token, attrs: dict[str, Any], regions: list[Graph], types: list[TensorType]
    ) -> Op:
        kind = OPS[title.text]
        try:
            if issubclass(kind, Constant):
                return self._constant(title, attrs, types[0])
            if issubclass(kind, Fused):
                shapes = tuple(t.shape for t in types)
                rows, columns = attrs["tile"]
                return Fused(rows, columns, attrs["reads"], shapes, regions[0])
            return kind(**_regions_by_field(kind, regions), **{
                key: _settled(value) for key, value in attrs.items()
            })  # fmt: skip
        except (TypeError, KeyError, IndexError, ValueError) as error:
            self._fail(f"{title.text} has wrong attributes: {error}", title,
                       ", ".join(f.name for f in fields(kind)))  # type: ignore[arg-type]  # fmt: skip

    def _constant(self, title: Token, attrs: dict[str, Any], kind: TensorType) -> Constant:
        if "data" in attrs:
            if attrs["data"] not in self.payloads:
                self._fail(f"the bytes of constant {attrs['data']} are missing", title,
                           "print with payloads=True, or give them as payloads=")  # fmt: skip
            return Constant(kind.shape, kind.dtype, self.payloads[attrs["data"]])
        parts = (attrs["value"],) if "value" in attrs else attrs["values"]
        data = b"".join(element_bytes(kind.dtype, str(part)) for part in parts)
        return Constant(kind.shape, kind.dtype, data)


class _Number(str):
    """A number as written: a constant rounds it to its dtype itself."""


class _Word(str):
    """A bare word: a text, or a dtype."""


def _settled(value: Any) -> Any:
    """An attribute as the operation wants it."""
    if isinstance(value, tuple):
        return tuple(map(_settled, value))
    if isinstance(value, _Number):
        return int(value) if re.fullmatch(r"-?\d+", value) else float(value)
    if isinstance(value, _Word):
        return DTYPES.get(value, str(value))
    return value


def _regions_by_field(kind: type[Op], regions: list[Graph]) -> dict[str, Any]:
    """The graphs of a node under the fields that hold them, in order."""
    rest = list(regions)
    named: dict[str, Any] = {}
    for f in fields(kind):  # type: ignore[arg-type]
        if "tuple[Graph" in str(f.type):
            named[f.name], rest = tuple(rest), []
        elif f.type == "Graph":
            named[f.name] = rest.pop(0)
    if rest:
        raise ValueError("it holds fewer graphs")
    return named


def _access(text: str) -> Access:
    sizes, _, rest = text.partition("@")
    strides, _, offset = rest.partition("+")
    shape = tuple(map(int, sizes.split("x")))
    return Access(shape, tuple(map(int, strides.split(","))), int(offset or 0))


def _plain(text: str) -> str:
    return str(json.loads(text)) if text.startswith('"') else text


__all__ = ["parse"]
