# SPDX-License-Identifier: Apache-2.0
"""Which package may import which, as the table in ``docs/architecture.md`` says, and what a file must have."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.architecture.checkout import file_names
from tests.fakehost.hosts import FakeHost
from tests.host.looking import REPOSITORY, python

ROOTS = {
    "cdi_gen": "cdi_gen",
    "cdi_base": "hooks/cdi_base",
    "cdi_hook": "hooks/cdi_hook",
    "cdi_runtime": "hooks/cdi_runtime",
    "cdi_specs": "specs/cdi_specs",
}

MAY_IMPORT: dict[str, set[str]] = {
    # The library, from its base up. The inventory and the standard know nothing of each other.
    "errors": {"cdi_base"},
    "findings": {"cdi_specs"},
    "paths": set(),
    "values": set(),
    "service_manager": set(),
    "waking": {"cdi_base"},
    "xids": {"cdi_specs"},
    "inventory": {"values", "errors", "paths", "cdi_base"},
    "catalogue": {"errors", "cdi_specs"},
    "cdi": {"values", "errors", "cdi_specs", "cdi_base"},
    "configuration": {"errors", "cdi_base"},
    # Beside each other. `host` does not know the standard, `store` does not know NVIDIA.
    "host": {"errors", "paths", "inventory", "catalogue", "cdi_base"},
    "generate": {"errors", "paths", "inventory", "catalogue", "cdi", "cdi_base"},
    "store": {"errors", "paths", "cdi", "cdi_base"},
    "engines": {"errors", "paths", "cdi", "cdi_base"},
    "diff": {"errors", "paths", "inventory", "cdi", "generate", "cdi_base"},
    # Above those.
    "tree": {"errors", "paths", "generate", "cdi_base"},
    "programs": {"errors", "paths", "inventory", "catalogue", "cdi", "cdi_base", "cdi_hook"}
    | {"host", "generate", "store"},
    "refresh": {"errors", "paths", "inventory", "catalogue", "cdi", "cdi_base"}
    | {"host", "generate", "store", "diff", "programs", "tree", "system"},
    "system": {"errors", "paths", "catalogue", "cdi_base", "host"},
    "compat": {"errors", "values", "inventory", "catalogue", "cdi_base", "cdi_specs"}
    | {"generate", "images"},
    "images": {"errors", "cdi_base"},
    "watch": {"errors", "catalogue", "cdi_base", "programs", "service_manager", "waking"},
    "why": {"errors", "paths", "inventory", "cdi", "cdi_base", "engines", "generate", "host"}
    | {"store", "cdi_runtime", "cdi_specs", "containers", "images"},
    "kubernetes": {
        "errors",
        "inventory",
        "paths",
        "cdi_specs",
        "cdi",
        "cdi_base",
        "host",
        "generate",
        "store",
        "catalogue",
        "engines",
        "programs",
        "waking",
        "xids",
    },
    "containers": {"errors", "paths", "inventory", "cdi_base", "host", "kubernetes"},
    "telemetry": {"errors", "inventory", "cdi_base", "cdi_specs", "host", "xids"},
    "metrics": {"errors", "paths", "inventory", "cdi_base", "cdi_specs", "host", "telemetry"}
    | {"cdi", "containers", "refresh", "doctor", "kubernetes", "service_manager", "waking", "xids"},
    "top": {"errors", "cdi_base", "host", "telemetry", "metrics", "containers", "waking"},
    "doctor": {"errors", "paths", "inventory", "catalogue", "cdi", "cdi_base", "cdi_specs"}
    | {
        "host",
        "cdi_runtime",
        "compat",
        "generate",
        "store",
        "engines",
        "refresh",
        "system",
        "findings",
        "images",
        "xids",
    },
    "cli": {
        "kubernetes",
        "doctor",
        "system",
        "service_manager",
        "waking",
        "watch",
        "errors",
        "paths",
        "inventory",
        "catalogue",
        "cdi",
        "host",
        "generate",
        "store",
    }
    | {"engines", "programs", "refresh", "diff", "tree", "configuration", "findings", "cdi_base"}
    | {"__version__", "compat", "containers", "images", "metrics", "telemetry", "top", "why"},
    "__main__": {"cli"},
    "__init__": {"cdi_base"},
    # The programs that run when a container starts, and what they share with the library.
    "cdi_base": set(),
    "cdi_hook": {"cdi_base"},
    "cdi_runtime": {"cdi_base", "cdi_hook"},
    "cdi_specs": set(),
}

THIRD_PARTY = {
    "click": re.compile(r"cdi_gen/cli/\w+\.py"),
    # The extra `kubernetes`: no other command may import them.
    "grpc": re.compile(r"cdi_gen/kubernetes/(plugin/\w+|pod_resources)\.py"),
    "prometheus_client": re.compile(r"cdi_gen/(kubernetes/metrics|metrics/own/device_plugin)\.py"),
    "google": re.compile(r"cdi_gen/kubernetes/protocols/\w+\.py"),
    # The extra `metrics`.
    "h11": re.compile(r"cdi_gen/metrics/web/connection\.py"),
    "bcrypt": re.compile(r"cdi_gen/metrics/web/passwords\.py"),
    "urllib3": re.compile(r"cdi_gen/kubernetes/(api|deadline)\.py"),
    "jsonschema": re.compile(r"cdi_gen/cdi/schema\.py"),
    "yaml": re.compile(r"cdi_gen/cdi/yamltext\.py|cdi_gen/cli/list\.py"),
    "pynvml": re.compile(r"cdi_gen/host/devices/nvml\.py"),
    "tomlkit": re.compile(r"cdi_gen/engines/text/toml_text\.py"),
}
STANDARD = sys.stdlib_module_names | {"__future__"}

LONGEST = 400
LONG: dict[str, str] = {}
"""Files of more than ``LONGEST`` lines, each with the reason why it is not two."""

VAGUE = {"util", "utils", "common", "helper", "helpers", "misc"}

MACHINE = re.compile(
    rf"{re.escape(str(REPOSITORY))}/|(?<!\d)/root/|/home/(?!(kubernetes|user|u)/)\w+/|/Users/"
)
"""Paths of a developer's machine. Allowed are /home/kubernetes, where GKE installs the driver,
/home/user of the lab, /home/u of a test, and /proc/1/root."""


def sources() -> Iterator[tuple[str, Path]]:
    """(name from the repository's root, path) of each module of the three packages."""
    for folder in ROOTS.values():
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            yield str(path.relative_to(REPOSITORY)), path


SOURCES = dict(sources())


def package_of(name: str) -> str:
    """The entry of ``MAY_IMPORT`` for a file: ``host`` for ``cdi_gen/host/roots.py``."""
    for package, folder in ROOTS.items():
        if name.startswith(folder + "/"):
            rest = name.removeprefix(folder + "/")
            return rest.split("/")[0].removesuffix(".py") if package == "cdi_gen" else package
    raise AssertionError(name)


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Every module that is imported anywhere in a file, with what is taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                above = package.split(".")[: -node.level + 1 or None]
                module = ".".join([*above, module] if module else above)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def violations(name: str, text: str) -> list[str]:
    own = package_of(name)
    messages = []
    for imported in imports(ast.parse(text), ".".join(name.split("/")[:-1])):
        top, _, rest = imported.partition(".")
        if top in STANDARD:
            continue
        if top == "cdi_gen":
            other = rest.split(".")[0]
        elif top in ROOTS:
            other = top
        else:
            if top not in THIRD_PARTY or not THIRD_PARTY[top].fullmatch(name):
                messages.append(f"{name} imports {top}")
            continue
        if other != own and other not in MAY_IMPORT[own]:
            messages.append(f"{name}: {own} may not import {imported}")
    return messages


def test_every_package_is_in_the_table() -> None:
    """A new package needs an entry: decide what it may import. An entry needs a package."""
    assert {package_of(name) for name in SOURCES} == MAY_IMPORT.keys()


@pytest.mark.parametrize("name", SOURCES)
def test_imports_follow_the_table(name: str) -> None:
    assert not violations(name, SOURCES[name].read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cdi_gen/host/x.py", "from cdi_gen.cdi import model"),
        ("cdi_gen/host/x.py", "from cdi_gen import cdi"),
        ("cdi_gen/host/x.py", "def f():\n    import cdi_gen.generate.hook_command"),
        ("cdi_gen/host/x.py", "from ..generate import hooks"),
        ("cdi_gen/cdi/x.py", "from cdi_gen.inventory import Gpu"),
        ("cdi_gen/generate/x.py", "from cdi_gen.host import gather"),
        ("cdi_gen/errors.py", "from cdi_gen.paths import join"),
        ("cdi_gen/generate/x.py", "import click"),
        ("cdi_gen/host/x.py", "import yaml"),
        ("cdi_gen/store/x.py", "import requests"),
        ("hooks/cdi_hook/x.py", "import cdi_gen"),
        ("hooks/cdi_hook/x.py", "import cdi_specs"),
        ("hooks/cdi_hook/x.py", "from cdi_runtime import bundle"),
        ("hooks/cdi_base/x.py", "from cdi_hook import arguments"),
        ("cdi_gen/store/x.py", "import cdi_hook"),
        ("cdi_gen/cdi/x.py", "from cdi_runtime import request"),
        ("cdi_gen/host/x.py", "from cdi_hook import arguments"),
        ("specs/cdi_specs/x.py", "from cdi_gen.errors import CdiGenError"),
    ],
)
def test_a_forbidden_import_is_found(name: str, text: str) -> None:
    assert violations(name, text)


def test_the_table_has_no_circle() -> None:
    """Each package can be understood after those that it imports."""
    remaining = dict(MAY_IMPORT)
    while remaining:
        free = {name for name, others in remaining.items() if not others & remaining.keys()}
        assert free, sorted(remaining)
        remaining = {name: others for name, others in remaining.items() if name not in free}


TABLE = re.compile(r"(<!-- imports: [^\n]*-->\n).*(<!-- end of imports -->\n)", re.DOTALL)


def rendered() -> str:
    """``MAY_IMPORT`` as a table in Markdown."""
    rows = [
        f"| `{name}` | {', '.join(f'`{other}`' for other in sorted(others)) or 'nothing'} |"
        for name, others in MAY_IMPORT.items()
        if not name.startswith("__")
    ]
    return "\n".join(["| package | may import |", "|---|---|", *rows, ""])


def test_the_table_is_in_the_documentation(request: pytest.FixtureRequest) -> None:
    """docs/architecture.md has the table that is tested here; ``make golden`` writes it."""
    path = REPOSITORY / "docs/architecture.md"
    text = path.read_text(encoding="utf-8")
    expected, count = TABLE.subn(lambda match: match[1] + rendered() + match[2], text)
    assert count == 1
    if request.config.getoption("--update-golden"):
        path.write_text(expected, encoding="utf-8")
    else:
        assert text == expected


def tracked(*suffixes: str) -> list[Path]:
    """The project's own files, whose names end so."""
    paths = [REPOSITORY / name for name in file_names()]
    return [path for path in paths if path.name.endswith(suffixes)]


def test_every_source_names_its_licence() -> None:
    marked = "SPDX-License-Identifier: Apache-2.0"
    missing = [
        str(path.relative_to(REPOSITORY))
        for path in tracked(".py", ".sh", ".c", ".go")
        if marked not in "".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:3])
    ]
    assert not missing


def test_every_module_says_what_it_is() -> None:
    missing = [
        name
        for name, path in SOURCES.items()
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not missing


def test_no_module_has_a_vague_name() -> None:
    vague = [
        str(path.relative_to(REPOSITORY))
        for path in tracked(".py")
        if VAGUE.intersection({path.stem, path.parent.name})
    ]
    assert not vague


def test_long_files_have_a_reason() -> None:
    """A file that a person cannot read in one go; and no reason is kept that is not needed."""
    lines = {name: path.read_text(encoding="utf-8").count("\n") for name, path in SOURCES.items()}
    assert {name for name, count in lines.items() if count > LONGEST} == LONG.keys()


def test_no_path_of_a_machine_is_in_the_tree() -> None:
    here = Path(__file__).resolve()
    found = []
    for path in tracked(
        ".py", ".md", ".json", ".yaml", ".toml", ".c", ".go", ".sh", ".txt", ".service", "Makefile"
    ):
        if path.resolve() == here:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if MACHINE.search(line):
                found.append(f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()[:80]}")
    assert not found


def modules_after(code: str, *words: str, isolated: bool = False) -> set[str]:
    """Modules that are loaded once ``code`` ran, less those that Python starts with."""
    options = ("-I",) if isolated else ()
    program = f"""
import sys
sys.path[:0] = {[str(REPOSITORY / each) for each in (".", "specs", "hooks")]!r}
before = set(sys.modules)
{code}
sys.stdout.flush()
sys.stderr.write("\\n" + repr(sorted(set(sys.modules) - before)))
"""
    done = python(*options, "-c", program, *words)
    assert done.returncode == 0, done.stderr
    found: list[str] = ast.literal_eval(done.stderr.splitlines()[-1])
    return set(found)


def test_importing_the_package_imports_nothing_else() -> None:
    assert modules_after("import cdi_gen", isolated=True) <= {"cdi_gen", "cdi_base", "__future__"}


def test_importing_the_hooks_package_imports_nothing_else() -> None:
    assert modules_after("import cdi_hook", isolated=True) <= {"cdi_hook", "__future__"}


# Each takes milliseconds that `generate` does not have, and that it does not need.
TOO_SLOW = {
    *("yaml", "jsonschema", "ctypes", "threading", "logging", "pathlib", "subprocess", "socket"),
    *("asyncio", "importlib.metadata", "importlib.resources", "tempfile", "shutil", "difflib"),
    *("argparse", "unittest", "email", "urllib", "http", "ssl", "multiprocessing", "sqlite3"),
    *("xml", "decimal", "random", "hashlib", "platform"),
}
GENERATE = "from cdi_gen.cli import run; run(['generate', '--host-root', sys.argv[1]])"


@pytest.mark.host
def test_what_generate_loads(host: Callable[[str], FakeHost]) -> None:
    # Its GPUs have no MIG; NVML is asked of those that may have it.
    found = modules_after(GENERATE, str(host("550-lib64").root))
    own = modules_after("import click")
    assert {"cdi_gen.host", "cdi_gen.generate", "click"} <= found
    assert not (found - own) & TOO_SLOW
    assert "pynvml" not in modules_after(GENERATE, str(host("550-1gpu").root))
    # The commands that are not run stay where they are.
    assert not found & {"cdi_gen.cli.validate", "cdi_gen.store", "cdi_gen.cdi.validation"}


@pytest.mark.host
def test_what_generate_loads_from_an_inventory(look: Callable[..., object]) -> None:
    golden = REPOSITORY / "specs/golden/flat-550-1gpu/inventory.json"
    code = "from cdi_gen.cli import run; run(['generate', '--inventory', sys.argv[1]])"
    found = modules_after(code, str(golden))
    assert not [name for name in found if name.startswith("cdi_gen.host")]


def test_the_extra_packages_are_loaded_by_what_needs_them_only() -> None:
    """Labels that go to a file need no package of the extra ``kubernetes``."""
    modules = "cli.kubernetes", "kubernetes.labels.loop", "kubernetes.probe.host"
    loaded = modules_after(f"import {', '.join(f'cdi_gen.{name}' for name in modules)}")
    assert not loaded & {"urllib3", "ssl", "grpc", "google.protobuf", "prometheus_client"}
    assert "urllib3" in modules_after("import cdi_gen.kubernetes.api")
    assert "grpc" not in modules_after("import cdi_gen.kubernetes.api")


def test_the_data_is_in_order() -> None:
    """JSON files can be read by a person and compared line by line."""
    for path in (REPOSITORY / "specs/cdi_specs").glob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert json.loads(text)
        assert text.endswith(("}", "}\n"))
        assert "\t" not in text
