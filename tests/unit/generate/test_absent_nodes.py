# SPDX-License-Identifier: Apache-2.0
"""What becomes of a node that the host does not have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdi_gen.cdi.model import ContainerEdits
from cdi_gen.generate import generate, generate_capabilities
from cdi_gen.generate.explain import rows
from cdi_gen.generate.options import Options
from cdi_gen.inventory import HookProgram, Inventory, json_form
from cdi_gen.paths import HostPath
from tests.host.looking import REPOSITORY

MODESET, UVM = "/dev/nvidia-modeset", "/dev/nvidia-uvm"


@pytest.fixture(scope="module")
def inventory() -> Inventory:
    path = REPOSITORY / "specs/golden/flat-550-1gpu/inventory.json"
    return json_form.load(path.read_text(encoding="utf-8"))


def without(inventory: Inventory, *paths: str) -> Inventory:
    nodes = inventory.control_nodes
    return replace(
        inventory,
        control_nodes=tuple(replace(each, present=each.path not in paths) for each in nodes),
    )


def nodes(edits: ContainerEdits) -> set[str]:
    return {node.path for node in edits.device_nodes}


@pytest.mark.parametrize(
    ("absent", "options", "there", "not_there"),
    [
        # A rootless engine starts nothing with a node that is not there: for graphics alone.
        (MODESET, Options(), {UVM}, {MODESET}),
        (MODESET, Options(capabilities=("all", "utility")), {UVM}, {MODESET}),
        (MODESET, Options(capabilities=("graphics",)), {MODESET}, {UVM}),
        (MODESET, Options(capabilities=("all", "display")), {MODESET, UVM}, set()),
        (MODESET, Options(capabilities=("compute", "utility")), {UVM}, {MODESET}),
        # Compute is what GPUs are for: an engine of root makes the node.
        (UVM, Options(), {MODESET, UVM}, set()),
        (UVM, Options(capabilities=("utility",)), set(), {MODESET, UVM}),
        # Nobody can make it.
        (UVM, Options(rootless=True), {MODESET}, {UVM}),
        (MODESET, Options(rootless=True, capabilities=("graphics",)), set(), {MODESET, UVM}),
    ],
)
def test_a_control_node(
    inventory: Inventory, absent: str, options: Options, there: set[str], not_there: set[str]
) -> None:
    found = nodes(generate(without(inventory, absent), options).container_edits)
    assert there <= found
    assert not not_there & found
    assert "/dev/nvidiactl" in found


@pytest.mark.parametrize("absent", [MODESET, UVM])
def test_a_control_node_in_a_user_namespace(inventory: Inventory, absent: str) -> None:
    """The root of LXC, or of Podman in Podman, makes no node."""
    nested = replace(without(inventory, absent), engines_make_nodes=False)
    for capabilities in (("all",), ("graphics", "compute")):
        assert absent not in nodes(
            generate(nested, Options(capabilities=capabilities)).container_edits
        )
    spec = generate_capabilities(nested, Options(class_="cap"))
    assert not any(absent in nodes(device.container_edits) for device in spec.devices)


def test_the_capability_device_has_it(inventory: Inventory) -> None:
    """It is asked for by name: nvidia.com/cap=graphics."""
    spec = generate_capabilities(without(inventory, MODESET), Options(class_="cap"))
    having = {each.name for each in spec.devices if MODESET in nodes(each.container_edits)}
    assert having == {"graphics", "display"}


def test_explain_says_why(inventory: Inventory) -> None:
    found = rows(without(inventory, MODESET), Options())
    reasons = {what: (verdict, why) for verdict, what, why in found}
    assert reasons[UVM] == ("taken", "serves compute")
    assert reasons[MODESET][0] == "left"
    assert reasons[MODESET][1] == (
        "serves display, graphics: it does not exist, and none of its capabilities is requested "
        "by name"
    )


BY_PATH = "/dev/dri/by-path/pci-0000:1b:00.0-card"


@pytest.mark.parametrize(
    ("hook", "options", "on_the_host", "links", "is_node"),
    [
        ("cdi-gen-hook", Options(), True, True, False),
        ("cdi-gen-hook", Options(), False, True, False),
        ("cdi-gen-hook", Options(disabled_hooks=("create-symlinks",)), True, False, True),
        ("cdi-gen-hook", Options(hooks=False), True, False, True),
        ("cdi-gen-hook", Options(hooks=False), False, False, False),
        ("nvidia-cdi-hook", Options(), True, False, True),
        ("nvidia-cdi-hook", Options(), False, False, False),
        (None, Options(), True, False, True),
        (None, Options(), False, False, False),
    ],
)
def test_by_path(
    inventory: Inventory,
    hook: str | None,
    options: Options,
    on_the_host: bool,
    links: bool,
    is_node: bool,
) -> None:
    """A link where our hook makes it; else a node, if a rootless engine can bind the host's."""
    changed = replace(
        inventory,
        gpus=tuple(
            replace(gpu, by_path=gpu.by_path if on_the_host else ()) for gpu in inventory.gpus
        ),
        hook=HookProgram(path=HostPath(f"/usr/bin/{hook}")) if hook else None,
    )
    spec = generate(changed, options)
    words = [word for each in spec.container_edits.hooks for word in each.args]
    assert (f"../card1::{BY_PATH}" in words) is links
    for device in spec.devices:
        assert (BY_PATH in nodes(device.container_edits)) is (is_node and device.name != "none")
