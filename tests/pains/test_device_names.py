# SPDX-License-Identifier: Apache-2.0
"""Names that mean another GPU than the user thinks: the index is no stable name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from cdi_base.findings import Finding
from tests.cli.program import cdi_gen
from tests.fakehost.hosts import FakeHost
from tests.host.looking import driver_root_of
from tests.pains import pain
from tests.pains.following import follow

ENGINE = ("--engine", "podman@5.4.2")


def why(fake: FakeHost, name: str) -> tuple[str, dict[str, Finding]]:
    """The outcome and the findings by code."""
    options = ("--host-root", str(fake.root), "--driver-root", driver_root_of(fake))
    result = cdi_gen("why", name, *ENGINE, *options, "-o", "json")
    (answer,) = json.loads(result.out)["answers"]
    findings = {
        found["code"]: Finding(
            found["code"], found["severity"], found["message"], fix=found.get("fix", "")
        )
        for found in answer["findings"]
    }
    return answer["outcome"], findings


def information(fake: FakeHost, uuid: str) -> Path:
    """The file in which the kernel describes a GPU."""
    directory = fake.root / "proc/driver/nvidia/gpus"
    return next(file for file in directory.glob("*/information") if uuid in file.read_text("ascii"))


def by_hand(fake: FakeHost) -> Any:
    """A spec by hand, in which each node was derived from the index."""
    document = json.loads(_generated(fake))
    for device in document["devices"]:
        if device["name"].isdigit():
            (node,) = (
                node
                for node in device["containerEdits"]["deviceNodes"]
                if re.fullmatch(r"/dev/nvidia[0-9]+", node["path"])
            )
            node["path"] = f"/dev/nvidia{device['name']}"
            node["minor"] = int(device["name"])
    return document


def _generated(fake: FakeHost) -> str:
    return cdi_gen(
        *("generate", "--host-root", str(fake.root), "--driver-root", driver_root_of(fake))
    ).out


def serve(fake: FakeHost, text: str) -> None:
    directory = fake.root / "etc/cdi"
    directory.mkdir(exist_ok=True)
    (directory / "nvidia.json").write_text(text)


@pain(
    19,
    "the container has another GPU than nvidia-smi says",
    command="cdi-gen why nvidia.com/gpu=0",
    codes=("CDG-V108", "CDG-Y010"),
    simulated=True,
)
def test_the_node_was_derived_from_the_index(own_host: Any) -> None:
    fake = own_host("550-permuted")
    serve(fake, json.dumps(by_hand(fake)))
    first = min(fake.kernel.gpus, key=lambda gpu: gpu.pci_address)
    assert first.minor == 2, "the first GPU by PCI address is not /dev/nvidia0"

    outcome, findings = why(fake, "nvidia.com/gpu=0")
    assert outcome == "broken"
    message = findings["CDG-V108"].message
    assert "gives GPU 1" in message
    assert "has /dev/nvidia2" in message

    follow(findings["CDG-V108"].fix, fake)
    outcome, findings = why(fake, "nvidia.com/gpu=0")
    assert outcome == "works"
    note = findings["CDG-Y010"]
    assert "whose node is /dev/nvidia2" in note.message
    name = note.fix.removeprefix("--device ")
    assert name.startswith("nvidia.com/gpu=pci-"), "a name that does not depend on the order"
    assert why(fake, name)[0] == "works"


@pain(
    20,
    "unresolvable CDI devices nvidia.com/gpu=GPU-…, after a board was replaced",
    command="cdi-gen why nvidia.com/gpu=GPU-…",
    codes=("CDG-V107", "CDG-Y009"),
    simulated=True,
)
def test_the_board_was_replaced(own_host: Any) -> None:
    fake = own_host("550-1gpu")
    serve(fake, _generated(fake))
    (gpu,) = fake.kernel.gpus
    old = f"nvidia.com/gpu={gpu.uuid}"
    assert why(fake, old)[0] == "works"

    file = information(fake, gpu.uuid)
    file.write_text(file.read_text().replace(gpu.uuid, NEW))
    outcome, findings = why(fake, old)
    assert outcome == "broken", "the old spec is still there"
    assert "the host has no GPU" in findings["CDG-V107"].message

    serve(fake, _generated(fake))
    outcome, findings = why(fake, old)
    assert outcome == "unresolved"
    finding = findings["CDG-Y009"]
    assert "a replaced board has another" in finding.message
    assert NEW in finding.message
    name = finding.fix.removeprefix("--device ")
    assert name.startswith("nvidia.com/gpu=pci-"), "the slot keeps its name"
    assert why(fake, name)[0] == "works"


NEW = "GPU-0f0f0f0f-aaaa-4bbb-8ccc-dddddddddddd"
