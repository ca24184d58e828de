"""Imports point one way, and the leaves know nothing of Lightning."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

SOURCE = ROOT / "src" / "gpt2_lightning"
LAYERS = [
    {"errors", "ranges", "metrics"},
    {"files", "machine"},
    {"runs.run", "runs.settings"},  # what a run has left, which everything may read
    {"locations"},
    {"data"},
    {"model"},
    {"callbacks"},
    {"runs"},
    {"inference"},
    {"sweeps"},
    {"commandline"},
    {"__main__"},
]
LEAVES = [
    "data/packing",
    "data/sampler",
    "model/nll",
    "model/optimizers",
    "model/muon",
    "model/attention",
    "model/architecture",
    "model/sampling",
    "model/hidden_states",
    "model/generation",
    "model/scoring",
]
MODULES = sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions; not those for the type checker alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = [ast.Pass()]
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def module_of(path: Path) -> str:
    """As it is imported; a folder by its `__init__`."""
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


def layer(name: str) -> int:
    """Of a module by its name in the package, as `runs.run`, or of something in it."""
    room, _, rest = name.partition(".")
    names = {f"{room}.{rest.split('.')[0]}", room}
    return next(number for number, layer in enumerate(LAYERS) if layer & names)


def test_the_root_holds_little():
    assert len(list(SOURCE.glob("*.py"))) <= 6


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_point_down(path: Path):
    if path == SOURCE / "__init__.py":
        assert not imports(path)
        return
    mine = layer(module_of(path).removeprefix("gpt2_lightning."))
    for name in imports(path):
        if name.startswith("gpt2_lightning."):
            assert layer(name.removeprefix("gpt2_lightning.")) <= mine, f"{path.name} imports {name}"


def test_imports_make_no_circle():
    known = {module_of(path): path for path in MODULES}
    graph = {
        module: {
            found
            for name in imports(path)
            if (found := name if name in known else name.rpartition(".")[0]) in known
        }
        for module, path in known.items()
    }
    assert len(list(TopologicalSorter(graph).static_order())) == len(known)


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_do_without_lightning(leaf: str):
    assert not [name for name in imports(SOURCE / f"{leaf}.py") if name.split(".")[0] == "lightning"]


def test_callbacks_do_not_import_the_module():
    for path in (SOURCE / "callbacks").glob("*.py"):
        assert not [name for name in imports(path) if name.startswith("gpt2_lightning.model.module")]


@pytest.mark.parametrize("package", ["wandb", "optuna", "datasets", "peft", "plotly", "rich"])
def test_heavy_packages_are_imported_where_they_are_used(package: str):
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert package not in {name.split(".")[0] for name in names}, path
