"""The rules of the house that a reader of the code cannot see at a glance: floors, imports, errors, sizes."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import xsearch
from xsearch import errors

PACKAGE = Path(xsearch.__file__).parent
TESTS = Path(__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# Ground floor first; a module imports from its own room, and from rooms on floors below.
FLOORS = (
    ("errors", "records"),
    ("ranking", "config"),
    ("text",),
    ("corpus", "encoder"),
    ("store",),
    ("search",),
    ("prepare",),
    ("vectors",),
    ("ingest",),
    ("given",),
    ("run",),
    ("index",),
    ("maintain",),
    ("evaluation",),
    ("training",),
    ("server",),
    ("cli",),
    ("__main__",),
)
# Loaded where they are used, and by nothing that only prints a help text.
HEAVY = (
    "torch", "transformers", "sentence_transformers", "faiss", "onnxruntime", "tokenizers", "pyarrow", "datasets",
    "sqlalchemy", "numpy", "pypdf", "docx", "trafilatura", "matplotlib", "py3langid",
)  # fmt: skip
# About torch from end to end: they import it at their head, and are imported where they are used.
TORCH_MODULES = tuple(
    f"training.{name}"
    for name in ("checkpoint", "distributed", "gradcache", "language_model", "losses", "masking", "objective",
                 "release", "stages", "student", "targets", "throughput", "train", "trainer")
)  # fmt: skip
# Extras, and what takes a second to load: these come only with their use.
LATE = {"torch", "transformers", "sentence_transformers", "faiss", "onnxruntime", "pyarrow", "datasets", "pypdf",
        "docx", "trafilatura", "matplotlib"}  # fmt: skip
MAX_LINES = 400


def name_of(path: Path) -> str:
    """The dotted name of a module, without the package's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def room_of(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def floor_of(room: str) -> int:
    found = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert found, f"{room} is on no floor; say in FLOORS where it belongs"
    return found[0]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def walk_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not is_type_checking(child):
            yield from walk_at_run_time(child)


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of each module that is imported, in functions too."""
    for node in walk_at_run_time(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} has a relative import"
            yield node.lineno, str(node.module)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down(path: Path) -> None:
    name = name_of(path)
    if not name:  # the root looks names up in every room, when they are asked for
        return
    wrong = []
    for line, imported in imports_of(path):
        if imported == "xsearch":
            wrong.append(f"line {line} imports from the package's root")
        elif imported.startswith("xsearch."):
            room, other = room_of(name), room_of(imported.removeprefix("xsearch."))
            same = room == other and (path.parent != PACKAGE or imported == f"xsearch.{name}")
            if not same and floor_of(other) >= floor_of(room):
                wrong.append(f"line {line}: {room} (floor {floor_of(room)}) imports {other} (floor {floor_of(other)})")
    assert not wrong


def test_every_room_has_a_floor() -> None:
    for path in MODULES:
        if name_of(path):
            floor_of(room_of(name_of(path)))


def test_the_ground_floor_needs_nothing() -> None:
    """errors and records are imported by everything, and so load fast."""
    for name in FLOORS[0]:
        for line, imported in imports_of(PACKAGE / f"{name}.py"):
            assert room_of(imported) in sys.stdlib_module_names | {"xsearch"}, (name, line, imported)


def test_rooms_are_named_after_what_they_own() -> None:
    for path in MODULES:
        assert path.stem not in ("utils", "util", "common", "helpers", "helper", "manager", "misc", "base"), path


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_size(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_every_room_has_tests() -> None:
    for folder in PACKAGE.iterdir():
        if (folder / "__init__.py").is_file():
            assert list((TESTS / folder.name).glob("test_*.py")), f"there is no test in tests/{folder.name}"


class TestImport:
    LOOK = (
        "import json, logging, os, sys, warnings\n"
        "own = None\n"
        "def state():\n"
        "    handlers = [str(h) for name in (None, 'xsearch') for h in logging.getLogger(name).handlers\n"
        "                if not isinstance(h, logging.NullHandler)]\n"
        "    return [dict(os.environ), [str(f) for f in warnings.filters if not own or own not in str(f)],\n"
        "            handlers, logging.getLogger().level,\n"
        "            logging.getLogger('xsearch').level, os.getcwd(), logging.raiseExceptions]\n"
        "before = state()\n"
    )

    def loaded(self, code: str, *arguments: str, first: str = "", own_filters: str = "") -> set[str]:
        """The top-level names of what is loaded after this code, in a new process that writes to nothing.

        ``own_filters`` names the package whose filters for its own warnings may be added.
        """
        look = self.LOOK.replace("own = None", f"own = {own_filters!r}")
        report = "\nprint(json.dumps([before == state(), sorted({n.split('.')[0] for n in sys.modules})]))"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", first + look + code + report, *arguments],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        same, modules = json.loads(done.stdout.splitlines()[-1])
        assert same, "the environment, the warnings or the logging are not what they were"
        assert done.stderr == ""
        return set(modules)

    def test_import_is_light_and_changes_nothing(self) -> None:
        loaded = self.loaded("import xsearch")
        assert "xsearch" in loaded
        assert not loaded & set(HEAVY)

    @pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["index", "--help"], ["search", "--help"]])
    def test_help_is_light_and_changes_nothing(self, arguments: list[str]) -> None:
        code = (
            "from xsearch.cli.main import main\n"
            "try:\n"
            "    main()\n"
            "except SystemExit as exc:\n"
            "    assert not exc.code, exc.code\n"
        )
        assert not self.loaded(code, *arguments) & set(HEAVY)

    def imported_first(self, names: list[str], *, first: str, own_filters: str = "") -> set[str]:
        """What is loaded after these modules, in one process, the rooms from the top down."""
        code = f"for name in {names!r}:\n    importlib.import_module('xsearch.' + name)"
        return self.loaded(code, first=first, own_filters=own_filters)

    def test_every_module_can_be_imported_first_and_changes_nothing(self) -> None:
        """But those about torch. (numpy filters warnings of its own.)"""
        names = [
            name
            for name in map(name_of, sorted(MODULES, reverse=True))
            if name and name != "__main__" and name not in TORCH_MODULES
        ]
        assert not self.imported_first(names, first="import importlib, numpy\n") & LATE

    def test_modules_about_torch_load_no_other_extra_and_change_nothing(self) -> None:
        """Nothing but the warnings of torch that torch itself filters when it is loaded."""
        names = [name for name in map(name_of, sorted(MODULES, reverse=True)) if name in TORCH_MODULES]
        assert "training.train" in names
        first = "import importlib, numpy\n"
        assert self.imported_first(names, first=first, own_filters="torch") & LATE == {"torch"}


def calls_of(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_unpickled_and_no_foreign_code_is_run(path: Path) -> None:
    """Pitfall 24."""
    for line, imported in imports_of(path):
        assert room_of(imported) not in ("pickle", "cPickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"), (
            line
        )
    for call in calls_of(path):
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        for name in ("allow_pickle", "trust_remote_code"):
            value = keywords.get(name)
            assert value is None or (isinstance(value, ast.Constant) and value.value is False), (name, call.lineno)
        target = ast.unparse(call.func)
        assert target not in ("eval", "exec", "os.system"), call.lineno
        if target == "torch.load":
            value = keywords.get("weights_only")
            assert isinstance(value, ast.Constant), call.lineno
            assert value.value is True, call.lineno
        if target in ("np.load", "numpy.load"):
            assert "allow_pickle" in keywords, call.lineno


def test_the_public_names() -> None:
    assert list(xsearch.__all__) == sorted(xsearch.__all__)
    for name in xsearch.__all__:
        thing = getattr(xsearch, name)
        assert inspect.getdoc(thing), f"xsearch.{name} has no docstring"
        if inspect.isclass(thing):
            for method, function in inspect.getmembers(thing, inspect.isfunction):
                if not method.startswith("_"):
                    assert inspect.getdoc(function), f"xsearch.{name}.{method} has no docstring"
    assert set(xsearch.__all__) <= set(dir(xsearch))
    with pytest.raises(AttributeError):
        _ = xsearch.nothing_of_the_kind


def exception_classes() -> dict[str, type[BaseException]]:
    """Every public exception class that the package defines."""
    found: dict[str, type[BaseException]] = {}
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            # A private one does not leave its module.
            if (
                isinstance(node, ast.ClassDef)
                and not node.name.startswith("_")
                and any(ast.unparse(parent).endswith(("Error", "Exception", "Interrupt")) for parent in node.bases)
            ):
                module = importlib.import_module(f"xsearch.{name_of(path)}".rstrip("."))
                found[node.name] = getattr(module, node.name)
    return found


def test_all_errors_are_of_one_tree() -> None:
    classes = exception_classes()
    assert {"XsearchError", "IndexDamagedError", "MissingExtraError"} <= classes.keys()
    for name, kind in classes.items():
        assert issubclass(kind, errors.XsearchError), name
        assert kind.__module__ == "xsearch.errors", name
        assert inspect.getdoc(kind), name


def raised_calls(path: Path) -> Iterator[ast.Call]:
    """Calls that make an error of ours, wherever they stand: ``raise``, ``return``, an argument."""
    ours = {name for name, kind in vars(errors).items() if inspect.isclass(kind)}
    return (call for call in calls_of(path) if isinstance(call.func, ast.Name) and call.func.id in ours)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_errors_say_what_was_given_what_was_expected_and_what_to_do(path: Path) -> None:
    for call in raised_calls(path):
        name = ast.unparse(call.func)
        kind = getattr(errors, name)
        parts = 4 if issubclass(kind, errors.ReadError) else 3
        starred = any(isinstance(part, ast.Starred) for part in call.args)
        given = len(call.args) + sum(keyword.arg != "line" for keyword in call.keywords)
        assert given == parts or starred, f"line {call.lineno}: {name} has {given} parts, not {parts}"
        for part in call.args:
            empty = isinstance(part, ast.Constant) and not str(part.value).strip()
            assert not empty, f"line {call.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_error_is_swallowed(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ExceptHandler):
            caught = "" if node.type is None else ast.unparse(node.type)
            assert caught not in ("", "Exception", "BaseException"), f"line {node.lineno}"
