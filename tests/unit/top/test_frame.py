# SPDX-License-Identifier: Apache-2.0
"""What is on the screen, for snapshots made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdi_gen.containers.model import REFUSED, HeldDevice, Holder
from cdi_gen.metrics.snapshot import ContainerUse, Snapshot
from cdi_gen.telemetry.model import ProcessReading
from cdi_gen.top.frame import State, frame, whole
from cdi_gen.top.glyphs import ASCII, UNICODE, Glyphs, width
from cdi_gen.top.lines import Style, plain
from cdi_gen.top.view import Order, Prompt, View
from tests.unit.metrics import snapshots
from tests.unit.metrics.snapshots import GIB
from tests.unit.top.shown import line_with, screen, state, text

SNAPSHOTS = (
    snapshots.idle, snapshots.eight, snapshots.mig, snapshots.shared, snapshots.faults,
)  # fmt: skip


def hostile() -> Snapshot:
    """Return a container of which each text is hostile."""
    device = snapshots.gpu(0)
    bad = "\x1b]0;x\x07\u202e\0\u6f22\u0300" * 20
    container = snapshots.container(1, name=bad, image=bad, id=bad, engine=bad)
    return Snapshot(
        reading=snapshots.reading(replace(device, model=bad), error=bad),
        holders=(Holder(container=container, devices=(snapshots.held(device),)),),
        containers=1,
        unseen=(bad,),
    )


def many(gpus: int = 16, devices: int = 7, containers: int = 300) -> Snapshot:
    """Return as many MIG devices and containers as the largest host has."""
    readings = []
    for number in range(gpus):
        mig = tuple(snapshots.mig_device(number, place, "1g.10gb") for place in range(devices))
        readings.append(snapshots.gpu(number, mig_enabled=True, mig=mig))
    held = [device for gpu in readings for device in gpu.mig]
    holders = [
        Holder(
            container=snapshots.container(1000 + number, name=f"job-{number:03}"),
            devices=(snapshots.held(held[number % len(held)]),),
        )
        for number in range(containers)
    ]
    uses = [
        ContainerUse(holder=holder, device=holder.devices[0].index, processes=1, memory=GIB)
        for holder in holders
    ]
    return Snapshot(
        reading=snapshots.reading(*readings),
        holders=tuple(holders),
        uses=tuple(uses),
        containers=containers,
    )


@pytest.mark.parametrize("make", [*SNAPSHOTS, hostile, many])
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
def test_each_line_has_the_width_of_the_screen(make: object, glyphs: Glyphs) -> None:
    assert callable(make)
    shown = state(make(), View(is_all_expanded=True), host="node\x1b[31m")
    for columns in (1, 10, 40, 41, 60, 79, 80, 99, 100, 132, 200, 300):
        for rows in (1, 4, 10, 25, 100):
            lines = frame(shown, columns, rows, glyphs).lines
            assert len(lines) == rows
            assert {width(plain(line)) for line in lines} == {columns}
            assert all(plain(line).isprintable() for line in lines)
            assert not glyphs.is_ascii or all(plain(line).isascii() for line in lines)


def test_gpus_with_what_they_do() -> None:
    line = screen(state(snapshots.eight()))[1][2]
    assert line.startswith("0    H100 80GB HBM3   57%  ━━━━━━━━━───────  39.0/80 GiB")
    assert "64°C" in line
    assert "612 W" in line
    assert "1980 MHz" in line


def test_containers_have_a_row_for_each_device() -> None:
    lines = screen(state(snapshots.eight()))[1]
    start = next(number for number, line in enumerate(lines) if "job-1" in line)
    words = [line.split() for line in lines[start : start + 3]]
    assert words[0][:6] == ["▸", "job-1", "podman", "0", "50%", "━━━━━━━━────────"]
    assert [line[0] for line in words[1:]] == ["1", "2"]
    pod = line_with(state(snapshots.eight()), "research/train-2")
    assert pod.split()[:6] == ["▸", "main", "containerd", "research/train-2", "3", "50%"]


def test_idle_is_zero_and_unknown_is_a_dash() -> None:
    assert "0%" in line_with(state(snapshots.eight()), "lazy")
    unknown = line_with(state(snapshots.shared()), "research/train-2")
    assert unknown.split("0  ", 1)[1].split()[:3] == ["\u2013"] * 3


def test_processes_of_no_container_have_a_row() -> None:
    line = line_with(state(snapshots.eight()), "in no container")
    assert line.split()[4:7] == ["host", "5", "50%"]


def test_an_expanded_container_has_its_processes() -> None:
    view = View(expanded=frozenset({("podman", f"{1:064x}")}))
    shown = state(snapshots.eight(), view, {101: "python train.py", 900: "ffmpeg"})
    assert line_with(shown, "python train.py").split()[:4] == ["└", "101", "root", "python"]
    assert "ffmpeg" not in text(shown)
    assert "no process uses a GPU" in text(replace(shown, view=View(is_all_expanded=True)))


def test_a_gpu_that_hangs_says_so_and_others_are_shown() -> None:
    lines = screen(state(snapshots.faults()))[1]
    assert "0    GPU 0 did not answer in 2 s (3 passes)" in lines
    assert "1    GPU is lost" in lines
    other = next(line for line in lines if line.startswith("2 "))
    assert "31°C" in other
    assert "Xid 13 x4; Xid 79; clocks: hw thermal" in other
    assert "not seen: the processes of user 1000 cannot be read" in lines


def test_mig_devices_follow_their_gpu() -> None:
    lines = screen(state(snapshots.mig()))[1]
    start = next(number for number, line in enumerate(lines) if line.startswith(" 0:0"))
    assert lines[start - 1].startswith("0 ")
    assert lines[start].split()[1:5] == ["MIG", "1g.10gb", "25%", "━━━━────────────"]
    assert lines[start + 4].startswith("1 ")


def test_refused_and_privileged_are_marked() -> None:
    snapshot = snapshots.eight()
    first, *_ = snapshot.holders
    refused = HeldDevice(index="0", uuid="", model="", access=REFUSED)
    holders = (
        replace(first, devices=(refused,)),
        Holder(
            container=snapshots.container(9, name="agent"),
            devices=tuple(snapshots.held(gpu) for gpu in snapshot.reading.gpus),
            has_all=True,
        ),
    )
    shown = state(replace(snapshot, holders=holders))
    assert "0!" in line_with(shown, "job-1").split()
    assert "all" in line_with(shown, "agent").split()


def test_no_driver_is_said_with_what_can_be_seen() -> None:
    reading = replace(snapshots.reading(), error="libnvidia-ml is not installed")
    shown = state(Snapshot(reading=reading, containers=7))
    lines = screen(shown)[1]
    assert lines[1] == "libnvidia-ml is not installed"
    assert "0 of 7 containers" in lines[0]
    assert "no GPU" in lines


def test_without_root_the_command_for_root_is_named() -> None:
    shown = state(snapshots.faults(), is_root=False)
    assert "run: sudo cdi-gen top" in text(shown)
    assert "sudo" not in text(replace(shown, is_root=True))


def test_a_late_pass_and_an_error_are_said() -> None:
    shown = state(snapshots.idle(), age=9.4, error="disk on fire")
    assert "the last pass ended 9 s ago" in text(shown)
    assert "disk on fire" in text(shown)
    assert "the last pass" not in text(replace(shown, view=View(is_paused=True)))
    assert "paused" in text(replace(shown, view=View(is_paused=True)))


@pytest.mark.parametrize(
    ("order", "is_inverted", "names"),
    [
        (Order.UTILIZATION, False, ["job-1", "main", "lazy"]),
        (Order.UTILIZATION, True, ["lazy", "main", "job-1"]),
        (Order.MEMORY, False, ["job-1", "main", "lazy"]),
        (Order.GPU, True, ["lazy", "main", "job-1"]),
        (Order.NAME, False, ["job-1", "lazy", "main"]),
        (Order.ENGINE, False, ["main", "lazy", "job-1"]),
        (Order.PROCESSES, False, ["job-1", "main", "lazy"]),
    ],
)
def test_containers_are_sorted_and_the_host_is_last(
    order: Order, is_inverted: bool, names: list[str]
) -> None:
    lines = screen(state(snapshots.eight(), View(order=order, is_inverted=is_inverted)))[1]
    shown = [line.split()[1] for line in lines if line.startswith("▸")]
    assert shown == [*names, "in"]


def test_the_filter_takes_all_words_in_any_field() -> None:
    shown = state(snapshots.eight(), View(words="PYTORCH podman"), {900: "ffmpeg"})
    assert [line.split()[1] for line in screen(shown)[1] if line.startswith("▸")] == ["job-1"]
    assert "filter: PYTORCH podman" in text(shown)
    by_command = replace(shown, view=View(words="ffmpeg"))
    assert "in no container" in text(by_command)
    typed = replace(shown, view=View(prompt=Prompt.FILTER, typed="nothing"))
    assert "no container has all words of the filter" in text(typed)


def test_one_row_for_a_container_sums_its_devices() -> None:
    line = line_with(state(snapshots.eight(), View(is_one_row_each=True)), "job-1")
    assert line.split()[3:5] == ["0-2", "50%"]
    assert "30.0 GiB" in line


def test_a_table_that_does_not_fit_is_scrolled_to_the_selection() -> None:
    shown = state(many())
    view = shown.view
    view = replace(view, containers=replace(view.containers, selected=299))
    drawn, lines = screen(replace(shown, view=view), rows=30)
    assert "1-12/128" in lines[1]
    assert any(line.endswith("/300") for line in lines)
    (selected,) = [line for line in drawn.lines if line[0].style is Style.SELECTED]
    assert drawn.lines[-2] == selected
    assert drawn.shown.selected is not None
    number = int(drawn.shown.selected[1], 16) - 1000
    assert f"job-{number:03}" in plain(selected)


def test_a_narrow_screen_has_the_pod_in_the_name() -> None:
    lines = screen(state(snapshots.eight()), columns=40)[1]
    assert any(line.startswith("▸ train-2/main") for line in lines)
    assert any(line.startswith("0    57% ━━━━╸─── 39.0/80 GiB 64°C 612 W") for line in lines)


def test_output_that_is_no_screen_has_all_rows() -> None:
    lines = [plain(line) for line in whole(state(many()), 120, UNICODE)]
    assert sum("job-" in line for line in lines) == 300
    assert sum("MIG" in line for line in lines) == 112


def test_processes_that_nvml_counts_elsewhere_are_in_no_container() -> None:
    """A process whose number a container has is its process only if NVML lists its device."""
    snapshot = snapshots.shared()
    gpu = replace(snapshot.reading.gpus[0], processes=(ProcessReading(pid=1002, memory=GIB),))
    shown = state(
        replace(snapshot, reading=replace(snapshot.reading, gpus=(gpu,))),
        View(is_all_expanded=True),
    )
    assert "its processes are not known" in text(shown)


def test_help_fits_any_screen() -> None:
    for columns, rows in ((40, 10), (80, 24), (300, 100)):
        shown: State = state(snapshots.idle(), View(is_help=True))
        lines = frame(shown, columns, rows, UNICODE).lines
        assert len(lines) == rows
        assert {width(plain(line)) for line in lines} == {columns}
        assert not any("…" in plain(line) for line in lines)
