"""Files that one reads in one sitting, and functions that one calls without counting."""

import ast
from pathlib import Path

import spikeclip

SOURCE = Path(spikeclip.__file__).parent
LINES, PARAMETERS = 330, 8
KERNELS = {
    *(SOURCE / "engine" / f"{name}.py" for name in ("kernels", "attention", "neuron", "vector")),
    *(SOURCE / "neurons").glob("*.py"),
}
"""What is compiled, and what hands tensors to it, has as many arguments as there are arrays."""


def test_no_file_is_too_long():
    long = {str(file): len(file.read_text().splitlines()) for file in SOURCE.rglob("*.py")}
    assert {file: lines for file, lines in long.items() if lines > LINES} == {}


def test_no_function_has_too_many_parameters():
    many = []
    for file in set(SOURCE.rglob("*.py")) - KERNELS:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                if len([name for name in names if name not in ("self", "cls")]) > PARAMETERS:
                    many.append(f"{file}:{node.lineno} {node.name}")
    assert many == []
