# SPDX-License-Identifier: Apache-2.0
"""The lock file: what leaves it, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdi_gen.compat.facts import HostFacts, ImageFacts
from cdi_gen.compat.fleet import matrix, pin
from cdi_gen.errors import CdiGenError
from tests.compat.test_matrix import HOST_580, IMAGE_12_8, UNREAD

PINNED = replace(IMAGE_12_8, digest="sha256:1")
SECOND = replace(HOST_580, name="gpu-2", driver="570.172.08")


def differences(
    hosts: list[HostFacts], images: list[ImageFacts], unread: tuple[matrix.Unreadable, ...] = ()
) -> list[tuple[str, str]]:
    """Severity and message of what differs from the lock of two hosts and an image."""
    locked = pin.lock_of(matrix.decide([HOST_580, SECOND], [PINNED]))
    lock = pin.load(pin.dump(locked).encode(), "fleet.lock")
    fleet = matrix.decide(hosts, images, unread)
    return [(each.severity, each.message) for each in pin.differences(lock, fleet)]


def test_the_same_fleet_has_not_left() -> None:
    assert differences([SECOND, HOST_580], [PINNED]) == []


def test_a_host_with_another_driver_has_left() -> None:
    hosts = [HOST_580, replace(SECOND, driver="575.57.08", gpus=HOST_580.gpus)]
    assert differences(hosts, [PINNED]) == [
        (
            "error",
            "host gpu-2 has left the lock file: driver is 575.57.08, locked 570.172.08",
        )
    ]


def test_a_host_that_got_the_driver_of_another_one_has_left() -> None:
    hosts = [HOST_580, replace(SECOND, driver=HOST_580.driver)]
    assert [severity for severity, _ in differences(hosts, [PINNED])] == ["error"]


def test_a_host_with_other_gpus_has_left() -> None:
    gpu = replace(HOST_580.gpus[0], name="NVIDIA L40S", capability="8.9")
    hosts = [replace(HOST_580, gpus=(gpu,)), SECOND]
    assert differences(hosts, [PINNED]) == [
        (
            "error",
            "host gpu-1 has left the lock file: gpus is NVIDIA L40S, locked NVIDIA H100 80GB HBM3",
        )
    ]


def test_a_fallen_gpu_is_not_another_model() -> None:
    hosts = [replace(HOST_580, gpus=HOST_580.gpus[:1]), SECOND]
    assert differences(hosts, [PINNED]) == []


def test_hosts_come_and_go() -> None:
    assert differences([HOST_580, replace(HOST_580, name="gpu-3")], [PINNED]) == [
        ("info", "host gpu-2 is in the lock file and has no inventory"),
        ("info", "host gpu-3 is not in the lock file; another host like it is"),
    ]


def test_a_new_host_unlike_the_others_has_left() -> None:
    new = replace(HOST_580, name="gpu-3", driver="590.44.01")
    ((severity, message),) = differences([HOST_580, SECOND, new], [PINNED])
    assert severity == "error"
    assert message.startswith("host gpu-3 is not in the lock file, nor one like it: driver 590.44")


def test_an_image_with_another_digest_has_left() -> None:
    assert differences([HOST_580, SECOND], [replace(PINNED, digest="sha256:2")]) == [
        ("error", "image app:1 has left the lock file: digest is sha256:2, locked sha256:1")
    ]


def test_the_list_of_images_is_exact() -> None:
    assert differences([HOST_580, SECOND], [replace(PINNED, name="app:9")]) == [
        ("error", "image app:1 is in the lock file and not in the list"),
        ("error", "image app:9 is in the list and not in the lock file"),
    ]


def test_what_cannot_be_read_is_not_called_gone() -> None:
    unread = tuple(
        replace(row, name=name) for row, name in zip(UNREAD, ("gpu-2", "app:1"), strict=True)
    )
    assert differences([HOST_580], [], unread) == []


def test_a_lock_file_is_sorted_with_a_host_on_each_line() -> None:
    fleet = matrix.decide([SECOND, HOST_580], [PINNED])
    rest = '"kernelModule": "open", "architecture": "x86_64", "gpus": ["NVIDIA H100 80GB HBM3"]'
    assert pin.dump(pin.lock_of(fleet)).split("\n")[:5] == [
        "{",
        ' "formatVersion": 1,',
        ' "hosts": {',
        f'  "gpu-1": {{"driver": "580.95.05", {rest}}},',
        f'  "gpu-2": {{"driver": "570.172.08", {rest}}}',
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"formatVersion": 2, "hosts": {}, "images": {}}',
        b'{"formatVersion": 1, "hosts": [], "images": {}}',
        b'{"formatVersion": 1, "hosts": {"a": 1}, "images": {}}',
        b"\xff",
    ],
)
def test_another_file_is_rejected(content: bytes) -> None:
    with pytest.raises(CdiGenError, match=r"other\.json is not a lock file") as caught:
        pin.load(content, "other.json")
    assert caught.value.code == "CDG-M105"
