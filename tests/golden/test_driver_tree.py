# SPDX-License-Identifier: Apache-2.0
"""The driver tree of every recorded host, and the specs that mount it."""

from __future__ import annotations

import json
import posixpath
from dataclasses import replace
from typing import Any

import pytest

from cdi_gen.cdi import wire
from cdi_gen.cdi.validation import check_text
from cdi_gen.errors import UsageError
from cdi_gen.generate import generate, generate_capabilities
from cdi_gen.generate.driver_tree import CURRENT, DriverTree, layout
from cdi_gen.generate.options import CHECK_REQUIREMENTS, Options
from cdi_gen.inventory import HookProgram, Inventory, json_form
from cdi_gen.paths import HostPath
from tests.golden.test_golden import GOLDEN, HOOK, hosts

CONTAINER = "/usr/local/nvidia"
IN_TREE_ALONE = {"nvidia-debugdump", "nvidia-persistenced", "nvidia-xconfig"}
"""Without a hook in the container's /usr/local/nvidia/bin, and not in /usr/bin."""

EVERYTHING = ("all", "compat32", "mps")

ALL_HOSTS = pytest.mark.parametrize("name", hosts())
BOTH_FORMS = pytest.mark.parametrize("hooks", [True, False], ids=["hook", "no-hook"])


def inventory_of(name: str) -> Inventory:
    inventory = json_form.load((GOLDEN / name / "inventory.json").read_text(encoding="utf-8"))
    return replace(inventory, hook=HOOK)


def spec_of(inventory: Inventory, **options: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(wire.dump(generate(inventory, Options(**options))))
    return document


def mounts_of(spec: dict[str, Any]) -> dict[str, str]:
    """Host paths by the paths in the container."""
    return {m["containerPath"]: m["hostPath"] for m in spec["containerEdits"]["mounts"]}


def content(tree: DriverTree) -> dict[str, str | None]:
    """The texts of links by path; None for files and directories."""
    paths: dict[str, str | None] = {file.path: None for file in tree.files}
    paths |= {link.path: link.text for link in tree.links}
    for path in tuple(paths):
        while path := posixpath.dirname(path):
            paths[path] = None
    return paths


def target(path: str, paths: dict[str, str | None]) -> str:
    """The file that a path of the tree leads to."""
    text = paths[path]
    if text is None:
        return path
    text = text.removeprefix(f"{CONTAINER}/") if text.startswith("/") else text
    above = "" if paths[path] != text else posixpath.dirname(path)
    return target(posixpath.normpath(posixpath.join(above, text)), paths)


@ALL_HOSTS
@BOTH_FORMS
def test_no_path_of_the_spec_names_the_version(name: str, hooks: bool) -> None:
    inventory = inventory_of(name)
    text = json.dumps(spec_of(inventory, form="tree", hooks=hooks, enabled_hooks=("chmod",)))
    assert inventory.require_driver().version not in text
    assert inventory.require_driver().version in json.dumps(spec_of(inventory, hooks=hooks))


def test_the_facts_for_requirements_are_in_the_file_of_the_tree() -> None:
    spec = spec_of(inventory_of("hgx-550-8gpu"), form="tree", enabled_hooks=(CHECK_REQUIREMENTS,))
    (hook,) = spec["containerEdits"]["hooks"]
    assert hook["args"].count(f"--host-driver-file={CURRENT}/driver.json") == 1
    assert not [word for word in hook["args"] if "host-cuda" in word or "driver-version" in word]
    assert sum(word.startswith("--gpu=") for word in hook["args"]) == 8


@ALL_HOSTS
@BOTH_FORMS
def test_every_mounted_path_of_the_tree_is_in_the_tree(name: str, hooks: bool) -> None:
    inventory = inventory_of(name)
    paths = content(layout(inventory, Options(form="tree", hooks=hooks)))
    sources = mounts_of(spec_of(inventory, form="tree", hooks=hooks)).values()
    in_tree = {path.removeprefix(CURRENT).lstrip("/") for path in sources if CURRENT in path}
    assert in_tree - {""} <= paths.keys()
    # A daemon that is restarted replaces its socket, so sockets are mounted by their own paths.
    assert {path for path in sources if CURRENT not in path} == {
        file.path for file in inventory.files if file.entry.endswith("/socket")
    }


@ALL_HOSTS
def test_every_link_leads_to_a_file_of_the_tree(name: str) -> None:
    tree = layout(inventory_of(name), Options(capabilities=EVERYTHING))
    paths, files = content(tree), {file.path for file in tree.files}
    assert tree.links
    assert {target(link.path, paths) for link in tree.links} <= files
    assert not {link.path for link in tree.links} & files


@ALL_HOSTS
def test_every_selected_file_is_in_the_tree(name: str) -> None:
    inventory = inventory_of(name)
    tree = layout(inventory, Options(capabilities=EVERYTHING))
    expected = {library.path for library in inventory.libraries}
    expected |= {file.path for file in inventory.files if not file.path.endswith("/socket")}
    assert {file.source for file in tree.files} == expected


@ALL_HOSTS
@BOTH_FORMS
def test_every_name_of_the_files_form_is_given(name: str, hooks: bool) -> None:
    """Libraries have all their names in the tree; other files are at the same paths."""
    inventory = inventory_of(name)
    names = {posixpath.basename(path) for path in content(layout(inventory))}
    files_spec = spec_of(inventory, hooks=hooks)
    given = mounts_of(spec_of(inventory, form="tree", hooks=hooks))
    libraries = {path for path in mounts_of(files_spec) if ".so" in path}
    for hook in files_spec["containerEdits"].get("hooks", []):
        links = [word.split("::")[1] for word in hook["args"] if "::" in word]
        libraries |= {link for link in links if ".so" in link}
    assert {posixpath.basename(path) for path in libraries} <= names
    for path in mounts_of(files_spec).keys() - libraries:
        if not hooks and posixpath.basename(path) in IN_TREE_ALONE:
            assert path not in given
            continue
        above, nvidia, _ = path.rpartition("/nvidia/")
        assert (f"{above}/nvidia" if nvidia else path) in given


@ALL_HOSTS
@BOTH_FORMS
def test_a_file_that_is_mounted_alone_is_a_copy(name: str, hooks: bool) -> None:
    """Linux does not mount a file that a package manager has deleted."""
    inventory = inventory_of(name)
    tree = layout(inventory, Options(form="tree", hooks=hooks))
    paths, copied = content(tree), {file.path: file.copied for file in tree.files}
    sources = mounts_of(spec_of(inventory, form="tree", hooks=hooks)).values()
    mounted = [path.removeprefix(f"{CURRENT}/") for path in sources if f"{CURRENT}/" in path]
    alone = {target(path, paths) for path in mounted} & copied.keys()
    assert alone == {path for path, is_copy in copied.items() if is_copy}
    # Memory is only for these: the largest libraries are not among them.
    assert not [path for path in alone if "nvvm" in path or "nvoptix" in path or "gsp" in path]
    assert hooks == (not [path for path in alone if path.startswith("lib64")])


@ALL_HOSTS
def test_the_hook_links_the_names_of_other_layouts_into_the_tree(name: str) -> None:
    inventory = inventory_of(name)
    paths = content(layout(inventory))
    (hook,) = spec_of(inventory, form="tree")["containerEdits"]["hooks"]
    links = dict(word.split("::")[::-1] for word in hook["args"] if "::" in word)
    texts = [text for text in links.values() if text.startswith(f"{CONTAINER}/")]
    assert {text.removeprefix(f"{CONTAINER}/") for text in texts} <= paths.keys()
    assert links["/usr/lib64/libcuda.so.1"] == f"{CONTAINER}/lib64/libcuda.so.1"
    assert [word for word in hook["args"] if word.startswith(CONTAINER) and "::" not in word] == [
        f"{CONTAINER}/{folder}"
        for bits, folder in ((64, "lib64"), (32, "lib"))
        if any(library.bits == bits for library in inventory.libraries)
    ]


@ALL_HOSTS
@BOTH_FORMS
def test_engines_take_the_spec(name: str, hooks: bool) -> None:
    text = wire.dump(generate(inventory_of(name), Options(form="tree", hooks=hooks)))
    assert not [each for each in check_text(text) if each.severity != "warning"]


def test_the_tree_has_the_selected_capabilities_alone() -> None:
    tree = layout(inventory_of("flat-550-1gpu"), Options(capabilities=("utility",)))
    paths = {file.path for file in tree.files}
    assert "lib64/libnvidia-ml.so.550.163.01" in paths
    assert not {path for path in paths if "libcuda" in path or path.startswith("lib/")}


def test_32_bit_libraries_have_a_directory_of_their_own() -> None:
    tree = layout(inventory_of("flat-550-1gpu"), Options(capabilities=("compute", "compat32")))
    sources = {file.path: file.source for file in tree.files}
    assert sources["lib/libcuda.so.550.163.01"].startswith("/usr/lib/i386-linux-gnu/")
    assert sources["lib64/libcuda.so.550.163.01"].startswith("/usr/lib/x86_64-linux-gnu/")


def without_hook(inventory: Inventory, **options: Any) -> None:
    generate(inventory, Options(form="tree", hooks=False, **options))


def test_what_a_spec_without_a_hook_cannot_do_is_rejected() -> None:
    inventory = inventory_of("flat-550-1gpu")
    with pytest.raises(UsageError, match=r"aarch64.*glibc"):
        without_hook(replace(inventory, architecture="aarch64"))
    with pytest.raises(UsageError, match="compat32"):
        without_hook(inventory, capabilities=("all", "compat32"))
    with pytest.raises(UsageError, match="--container-library-dir"):
        without_hook(inventory, library_directories=("/usr/lib",))
    generate(replace(inventory, architecture="aarch64"), Options(form="tree"))
    generate(inventory, Options(form="tree", capabilities=("all", "compat32")))


def test_nvidia_s_hook_and_mode_cap_do_not_have_the_form() -> None:
    inventory = inventory_of("flat-550-1gpu")
    nvidia = HookProgram(path=HostPath("/usr/bin/nvidia-cdi-hook"))
    with pytest.raises(UsageError, match="nvidia-cdi-hook does not know the driver tree"):
        generate(replace(inventory, hook=nvidia), Options(form="tree"))
    with pytest.raises(UsageError, match="--mode cap"):
        generate_capabilities(inventory, Options(class_="cap", form="tree"))
