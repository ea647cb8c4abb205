"""The functions behind the commands: their names hide nothing that they call."""

from __future__ import annotations

import ast
from pathlib import Path

COMMANDS = Path(__file__).parents[2] / "tracker" / "commands"


def test_no_function_of_a_command_has_the_name_of_what_is_imported_inside_one() -> None:
    hidden = []
    for path in sorted(COMMANDS.glob("*.py")):
        functions = [
            node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)
        ]
        own = {function.name for function in functions}
        inside = [
            node
            for function in functions
            for node in ast.walk(function)
            if isinstance(node, ast.ImportFrom)
        ]
        names = {alias.asname or alias.name for node in inside for alias in node.names}
        hidden += [f"{path.name}: {name}" for name in sorted(own & names)]
    assert hidden == []
