"""Models that cannot be loaded, compiled or run: exit code 2 and a message."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tenzing import cli

pytest.importorskip("torch")
pytestmark = pytest.mark.torch
Captured = pytest.CaptureFixture[str]

HEADER = """\
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 4)

    def forward(self, x):
        {forward}


torch.manual_seed(0)
net = Net().eval()
"""
INPUTS = "example_inputs = (torch.ones(2, 8),)\n"


@dataclass(frozen=True)
class Bad:
    """A model file, the attribute asked for, and the words of its message."""

    name: str
    says: tuple[str, ...]
    forward: str = "return self.linear(x)"
    rest: str = INPUTS
    attribute: str = "net"


BAD = (
    Bad("missing_attribute", ("has no 'model'", "net"), attribute="model"),
    Bad("no_example_inputs", ("gives no example inputs for 'net'", "next: define"), rest=""),
    Bad("training_mode", ("training mode", "next: call module.eval()"),
        rest=INPUTS + "net.train()\n"),
    Bad("unsupported_operation", ("unsupported: ", "aten.", "next:", "# HERE"),
        forward="return torch.linalg.svd(x)[1]  # HERE"),
    Bad("branch_on_values", ("# HERE",),
        forward="return x if x.sum() > 0 else -x  # HERE"),
    Bad("own_error", ("rows must be even", "# HERE"),
        forward="raise ValueError('rows must be even')  # HERE"),
    Bad("wrong_sizes", ("# HERE",), forward="return self.linear(x)  # HERE",
        rest="example_inputs = (torch.ones(2, 9),)\n"),
    Bad("too_many_inputs", ("argument",), rest="example_inputs = (torch.ones(2, 8),) * 3\n"),
    Bad("inputs_of_text", ("str",), rest="example_inputs = ('x',)\n"),
    Bad("not_a_model", ("int",), rest=INPUTS + "net = 3\n"),
    Bad("function_that_needs_arguments", ("compiled as a JAX function", "next: a function of"),
        rest=INPUTS + "def net(size): return size\n"),
    Bad("function_that_fails", ("KeyError: 'weights'", "at "),
        rest=INPUTS + "def net(): return {}['weights']\n"),
    Bad("triple", ("triple.py",), rest="net = (net, (torch.ones(2, 8),), 'spare')\n"),
    Bad("error_while_importing", ("NameError", "at "), rest="undefined_name\n"),
    Bad("exit_while_importing", ("ended with exit code 4",), rest="import sys\nsys.exit(4)\n"),
    Bad("syntax_error", ("syntax_error.py is not Python", "at "), rest="net = (\n"),
)  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda b: b.name)
def test_the_message(bad: Bad, tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / f"{bad.name}.py"
    path.write_text(HEADER.format(forward=bad.forward) + bad.rest)
    code = cli.main(["run", f"{path}:{bad.attribute}"])
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    assert "this is a bug" not in told.err
    assert code == 2, told.err
    assert told.out == ""
    for words in bad.says:
        assert words in told.err, told.err


def test_a_model_that_works(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "good.py"
    path.write_text(HEADER.format(forward="return self.linear(x)") + INPUTS)
    assert cli.main(["run", f"{path}:net"]) == 0
    assert "Against the framework" in capsys.readouterr().out
