"""Which definitions of embedded/ does anybody reach: the package and its scripts, or the names that projects import.

Reached is what those sources name, what a module does when it is imported, and in turn what a reached definition names.
Names are resolved through imports. A method is reached by its class and a word: that any user of the class writes it
after a dot, or that it overrides one of a library.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterable, Iterator
from functools import cached_property

from tests.places import ROOT
from tests.source import python_files

PUBLIC_NAMES = ROOT / "tests" / "house" / "public_names.txt"
USERS = ("mask2former_ext", "train_net.py", "demo", "tools", "datasets")


class Source:
    """One file: its definitions, and what each name that it imports stands for."""

    def __init__(self, text: str, module: str = "", is_package: bool = False) -> None:
        self.module = module
        self.package = module if is_package else module.rpartition(".")[0]
        self.tree = ast.parse(text)
        self.definitions: dict[str, list[ast.stmt]] = {}
        for statement in self.tree.body:
            for name in _defined_names(statement):
                self.definitions.setdefault(name, []).append(statement)

    @cached_property
    def imported(self) -> dict[str, str]:
        """Local name -> dotted name; imports inside functions count for the whole file."""
        names: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                above = self.package.split(".")[: len(self.package.split(".")) - node.level + 1] if node.level else []
                origin = ".".join([*above, *([node.module] if node.module else [])])
                names.update({alias.asname or alias.name: f"{origin}.{alias.name}" for alias in node.names})
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.partition(".")[0]
                    names[alias.asname or first] = alias.name if alias.asname else first
        return names

    def dotted(self, node: ast.AST) -> str | None:
        """The dotted name that a name or chain of attributes stands for, if it begins with one that the file knows."""
        match node:
            case ast.Name(id=name) if name in self.imported:
                return self.imported[name]
            case ast.Name(id=name) if name in self.definitions:
                return f"{self.module}.{name}"
            case ast.Attribute(value=value, attr=attribute):
                owner = self.dotted(value)
                return owner and f"{owner}.{attribute}"
        return None

    def names_in(self, *nodes: ast.AST) -> tuple[set[str], set[str]]:
        """Dotted names, and words after a dot, below the nodes."""
        below = [inner for node in nodes for inner in ast.walk(node)]
        dotted = {name for node in below if (name := self.dotted(node))}
        words = {node.attr for node in below if isinstance(node, ast.Attribute)}
        return dotted, words | {node.name for node in below if isinstance(node, ast.FunctionDef)}


def _defined_names(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Assign(targets=targets):
            names = [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
            return [name for name in names if not (name.startswith("__") and name.endswith("__"))]
    return []


class Reach:
    """Follows names from their users into embedded/; `unreached` is what no chain came to."""

    def __init__(self) -> None:
        self.sources = {}
        for path in python_files("embedded"):
            module = ".".join(path.relative_to(ROOT / "embedded").with_suffix("").parts).removesuffix(".__init__")
            self.sources[module] = Source(path.read_text(), module, path.name == "__init__.py")
        for line in (ROOT / "embedded" / "detectron2" / "homes.txt").read_text().splitlines():
            if not line.startswith("#"):
                self._add_homes(*line.split(": "))
        self.reached: set[tuple[str, str]] = set()
        self.methods: dict[tuple[str, str], dict[str, ast.FunctionDef]] = {}
        self.words: set[str] = set()
        for source in self.sources.values():
            self.follow(*source.names_in(*_done_at_import(source.tree)))

    def _add_homes(self, module: str, entries: str) -> None:
        """What the table says a module gives out, as if the module imported it."""
        source = self.sources.setdefault(f"detectron2.{module}", Source("", f"detectron2.{module}", True))
        for entry in entries.split():
            name, _, home = entry.rpartition("=")
            source.imported[name or home.rpartition(".")[2]] = home

    def follow(self, dotted: Iterable[str], words: Iterable[str]) -> None:
        """Reach what these names stand for, and whatever that names in turn."""
        self.words |= set(words)
        waiting = list(dotted)
        while waiting:
            place = self._place(waiting.pop())
            if place is not None and place not in self.reached:
                self.reached.add(place)
                waiting += self._enter(*place)
            if not waiting:
                waiting += self._methods_by_word()

    def _methods_by_word(self) -> set[str]:
        names: set[str] = set()
        for (module, _), methods in self.methods.items():
            for name in methods.keys() & self.words:
                dotted, words = self.sources[module].names_in(methods.pop(name))
                names |= dotted
                self.words |= words
        return names

    def _place(self, dotted: str, passed: frozenset[str] = frozenset()) -> tuple[str, str] | None:
        """(module, name) of the definition that a dotted name leads to, through re-exports."""
        parts = dotted.split(".")
        for length in range(len(parts) - 1, 0, -1):  # `engine.launch` is a module, and a function in `engine`
            module, name, rest = ".".join(parts[:length]), parts[length], parts[length + 1 :]
            source = self.sources.get(module)
            if source is None:
                continue
            if name in source.definitions:
                return module, name
            place = f"{module}.{name}"
            if name in source.imported and place not in passed:
                return self._place(".".join([source.imported[name], *rest]), passed | {place})
        return None

    def _enter(self, module: str, name: str) -> set[str]:
        source, names = self.sources[module], set()
        for statement in source.definitions[name]:
            parts = [statement]
            if isinstance(statement, ast.ClassDef):
                methods = {item.name: item for item in statement.body if isinstance(item, ast.FunctionDef)}
                self.methods[module, name] = methods
                self.words |= {method for method in methods if _overrides_a_library(module, name, method)}
                parts = [item for item in ast.iter_child_nodes(statement) if item not in methods.values()]
            dotted, words = source.names_in(*parts)
            names |= dotted
            self.words |= words
        return names

    def unreached(self) -> list[str]:
        """module:name and module:class.method, sorted."""
        names = [
            f"{module}:{name}"
            for module, source in self.sources.items()
            for name in source.definitions
            if (module, name) not in self.reached
        ]
        return sorted(
            names + [f"{module}:{owner}.{name}" for (module, owner), left in self.methods.items() for name in left]
        )


def _done_at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements that define nothing, and the decorated definitions, which a registry keeps."""
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef) and any(
            isinstance(item, ast.Call) and ast.unparse(item.func).endswith(".register")
            for item in statement.decorator_list
        ):
            yield ast.Name(id=statement.name)
        elif not _defined_names(statement) and not isinstance(statement, ast.Import | ast.ImportFrom):
            if not (isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"):
                yield statement


def _overrides_a_library(module: str, owner: str, name: str) -> bool:
    if name.startswith("__") and name.endswith("__"):
        return True
    kind = getattr(importlib.import_module(module), owner)
    return any(hasattr(base, name) for base in kind.__mro__ if not base.__module__.startswith("detectron2"))


def reach_of_users() -> Reach:
    """What the package, the scripts, the tools and the recorded public names reach."""
    reach = Reach()
    for path in python_files(*USERS):
        source = Source(path.read_text())
        reach.follow(*source.names_in(source.tree))
        reach.follow(source.imported.values(), ())
    lines = [line for line in PUBLIC_NAMES.read_text().splitlines() if line and not line.startswith("#")]
    reach.follow(
        [line for line in lines if not line.startswith(".")], [line[1:] for line in lines if line.startswith(".")]
    )
    return reach
