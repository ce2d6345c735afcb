# SPDX-License-Identifier: Apache-2.0
"""The parts of ``python3 -m tests.gpu.metrics`` that need no GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cdi_gen.metrics import catalogue
from cdi_gen.metrics.exposition import render
from cdi_gen.metrics.families import Options, families
from tests.fakehost.hosts import FakeHost
from tests.gpu.metrics import commands, comparison, containers, cost, nvidia_smi, phases, sources
from tests.gpu.metrics.comparison import DIFFERENT, EQUAL, NOT_THERE, NOT_TOLD, ONLY_HERE
from tests.gpu.metrics.exporter import Cost, Exporter, Sample, Scrape, ended_by, kernel_lines
from tests.gpu.metrics.loads import HOOK_FREE, IDLE, MATMUL, SHIM, Load, Loaded
from tests.gpu.metrics.nvidia_smi import ProcessSample
from tests.gpu.several import usage
from tests.gpu.several.gpus import Gpu
from tests.unit.metrics import snapshots

GPUS = tuple(
    Gpu(index, f"GPU-{index}", f"0000:0{index}:00.0", 195, index + 2) for index in range(3)
)
BUSY = Loaded(
    Load("busy", MATMUL, 2, GPUS[0], HOOK_FREE), "podman", "a" * 64, frozenset({10, 11}), ""
)
SLEEPING = Loaded(Load("idle", IDLE, 4, GPUS[0], SHIM), "crun", "idle", frozenset({20}), "")
MEMORY = {11: 2500.0, 20: 4600.0}
MIB = 2**20

DMON = """\
# gpu    pwr  gtemp  mtemp     sm    mem     fb    pci  rxpci  txpci
# Idx      W      C      C      %      %     MB   errs   MB/s   MB/s
    0    651     60     62    100     43   7100      0     17      9
    1     75     30      -      0      0      0      0      1      1
# gpu    pwr  gtemp  mtemp     sm    mem     fb    pci  rxpci  txpci
    0    652     60     62     99     43   7100      0     17      9
WARNING: a message between the rows
"""
PMON = """\
# gpu         pid   type     sm    mem    enc    dec    jpg    ofa     fb   ccpm    command
# Idx           #    C/G      %      %      %      %      %      %     MB     MB    name
    0         11     C     98     40      -      -      -      -   2500      0    python3 load.py
    0         20     C      -      -      -      -      -      -   4600      0    python3
    1          -     -      -      -      -      -      -      -      -      -    -
"""
XML = """<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log><gpu id="0"><clocks><sm_clock>1980 MHz</sm_clock></clocks>
<pci><replay_counter>0</replay_counter></pci><fan_speed>N/A</fan_speed></gpu></nvidia_smi_log>
"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1980", 1980),
        (" 651.25 ", 651.25),
        ("96 bank(s)", 96),
        ("-5 C", -5),
        ("0x0000000000000004", 4),
        ("P0", 0),
        ("Enabled", 1),
        ("[No]", 0),
        ("Exclusive_Process", 3),
        ("[N/A]", None),
        ("[Not Supported]", None),
        ("-", None),
        ("", None),
    ],
)
def test_values_of_nvidia_smi(text: str, value: float | None) -> None:
    assert nvidia_smi.number(text) == value


def test_dmon_has_rows_by_the_names_of_its_heading() -> None:
    rows = nvidia_smi.monitor_rows(DMON)
    assert [row["gpu"] for row in rows] == ["0", "1", "0"]
    assert rows[0]["txpci"] == "9"
    assert nvidia_smi.number(rows[1]["mtemp"]) is None


def test_dmon_as_csv_has_the_same_rows() -> None:
    lines = [",".join(line.lstrip("# ").split()) for line in DMON.splitlines()]
    text = "\n".join(f"#{line}" if line[0] in "gI" else line for line in lines)
    assert nvidia_smi.monitor_rows(text) == nvidia_smi.monitor_rows(DMON)


def test_pmon_has_processes() -> None:
    assert nvidia_smi.process_rows(nvidia_smi.monitor_rows(PMON)) == [
        ProcessSample("0", 11, 2500, 98),
        ProcessSample("0", 20, 4600, None),
    ]


def test_queries_and_details_have_values_by_name() -> None:
    assert nvidia_smi.query_rows(("index", "pstate", "fan.speed"), "0, P0, [N/A]\n1, P8, 30\n") == {
        "0": {"index": 0, "pstate": 0, "fan.speed": None},
        "1": {"index": 1, "pstate": 8, "fan.speed": 30},
    }
    assert nvidia_smi.compute_apps("GPU-0, 11, 2500\nGPU-0, 20, [N/A]\n\n") == [
        ProcessSample("GPU-0", 11, 2500),
        ProcessSample("GPU-0", 20, None),
    ]
    (values,) = nvidia_smi.xml_values(XML)
    assert values == {"clocks/sm_clock": 1980, "pci/replay_counter": 0, "fan_speed": None}
    help_text = 'List:\n\n"clocks.current.sm" or "clocks.sm"\nFrequency.\n'
    assert nvidia_smi.queryable(help_text) == {"clocks.current.sm", "clocks.sm"}


def test_every_source_is_of_a_field() -> None:
    assert set(sources.SOURCES) <= catalogue.keys()


def _row(key: str, ours: Sequence[float], **readings: Sequence[float]) -> comparison.Row:
    field = next(field for field in catalogue.fields() if field.key == key)
    by_place = {
        name.replace("_", " ", 1).replace("__", "."): values for name, values in readings.items()
    }
    (row,) = comparison.compare(field, field.names["old"], "0", ours, by_place)
    return row


def test_the_margin_is_the_spread_of_nvidia_smi_s_own_readings() -> None:
    readings = [600.0, 640.0]
    for watts, verdict in ((560.5, EQUAL), (679.5, EQUAL), (559.0, DIFFERENT), (681.0, DIFFERENT)):
        assert _row("board_power_watts", [watts], dmon_pwr=readings).verdict == verdict
    # Two equal readings leave the resolution.
    assert _row("gpu_temp_celsius", [61], dmon_gtemp=[60, 60]).verdict == EQUAL
    assert _row("gpu_temp_celsius", [62], dmon_gtemp=[60, 60]).verdict == DIFFERENT
    assert (
        _row("ecc_dbe_vol_total", [1], query_ecc__errors__uncorrected__volatile__total=[0]).verdict
        == DIFFERENT
    )


def test_values_are_compared_in_the_unit_of_the_series() -> None:
    row = _row("fb_used_bytes", [7100], dmon_fb=[7100.0])
    assert (row.theirs, row.margin, row.verdict) == ((7100.0,), 1.0, EQUAL)


def test_a_last_resort_is_compared_only_without_another_source() -> None:
    key, ours = "pcie_tx_bytes_per_second", [500e6]
    field = next(field for field in catalogue.fields() if field.key == key)
    dmon = {"dmon txpci": [900.0]}
    (row,) = comparison.compare(field, field.names["old"], "0", ours, dmon)
    assert (row.place, row.verdict) == ("dmon txpci", DIFFERENT)
    (row,) = comparison.compare(field, field.names["old"], "0", ours, {**dmon, "gpm 20": [480.0]})
    assert (row.place, row.verdict) == ("gpm 20", EQUAL)


def test_a_value_that_one_of_both_does_not_tell() -> None:
    assert _row("gpu_temp_celsius", [], dmon_gtemp=[60]).verdict == NOT_THERE
    assert _row("gpu_temp_celsius", [60]).verdict == ONLY_HERE
    assert _row("gpu_temp_celsius", []).verdict == NOT_TOLD
    assert comparison.faults([_row("gpu_temp_celsius", [], dmon_gtemp=[60])])
    assert not comparison.faults([_row("gpu_temp_celsius", [60])])


def test_the_energy_is_what_the_power_tells() -> None:
    energy = comparison.energy([(0.0, 100.0), (100.0, 65_100.0)], [640.0, 660.0])
    assert energy is not None
    assert energy.is_plausible
    assert not energy._replace(joules=65.0).is_plausible
    assert not energy._replace(joules=65_000_000.0).is_plausible
    assert comparison.energy([(0.0, 100.0)], [640.0]) is None


def _scrape(**changes: Any) -> list[Sample]:
    """Return a scrape of both containers; changes are values by container and series."""
    samples = []
    for loaded, memory, utilization in ((BUSY, 2500, 0.98), (SLEEPING, 4600, 0.0)):
        name = loaded.load.name
        labels = {"engine": loaded.engine, "container_id": loaded.id, "gpu": "0", "UUID": "GPU-0"}
        if loaded.engine == "podman":
            labels["name"] = name
        values = {
            "held": 1.0,
            "memory_used_bytes": memory * MIB,
            "utilization_ratio": utilization,
            "processes": 1.0,
        }
        for end, value in values.items():
            changed = changes.get(f"{name}_{end}", value)
            samples.append(Sample(f"{containers.PREFIX}{end}", labels, float(changed)))
    return samples


def _container_rows(**changes: Any) -> list[containers.Row]:
    listed = [ProcessSample("GPU-0", pid, memory) for pid, memory in MEMORY.items()]
    monitored = nvidia_smi.process_rows(nvidia_smi.monitor_rows(PMON))
    return containers.rows([BUSY, SLEEPING], [_scrape(**changes)], listed, monitored)


def test_containers_are_compared_with_their_processes() -> None:
    rows = _container_rows()
    assert {row.verdict for row in rows} == {EQUAL}
    assert containers.load_faults([BUSY, SLEEPING], rows) == []


@pytest.mark.parametrize(
    ("changes", "row", "load"),
    [
        ({"busy_memory_used_bytes": 2600 * MIB}, "memory_used_bytes", ""),
        ({"idle_memory_used_bytes": 0}, "memory_used_bytes", "idle: 0 bytes"),
        ({"idle_utilization_ratio": 0.98}, "utilization_ratio", "idle is idle, but"),
        ({"busy_utilization_ratio": 0.1}, "utilization_ratio", "busy computes without a pause"),
        ({"busy_processes": 2}, "processes", ""),
    ],
)
def test_a_wrong_value_of_a_container_is_a_fault(
    changes: dict[str, float], row: str, load: str
) -> None:
    rows = _container_rows(**changes)
    assert [each.series for each in rows if each.verdict == DIFFERENT] == [row]
    faults = containers.load_faults([BUSY, SLEEPING], rows)
    assert len(faults) == bool(load)
    assert all(load in fault for fault in faults)


def test_labels() -> None:
    series = frozenset({"DCGM_FI_DEV_GPU_UTIL"})
    device = Sample("DCGM_FI_DEV_GPU_UTIL", {"gpu": "0"}, 98)
    assert containers.label_faults([BUSY, SLEEPING], [*_scrape(), device], series) == []
    # Several holders: a label would count the GPU for one of them.
    named = device._replace(labels={"gpu": "0", "container": "busy"})
    assert containers.label_faults([BUSY, SLEEPING], [*_scrape(), named], series) == [
        "1 device series of GPU 0 have the container 'busy', expected ''"
    ]
    alone = [sample for sample in _scrape() if sample.labels["engine"] == "podman"]
    assert containers.label_faults([BUSY], [*alone, named], series) == []
    assert containers.label_faults([BUSY], [*alone, device], series) == [
        "1 device series of GPU 0 have the container '', expected 'busy'"
    ]
    other = [sample._replace(labels={**sample.labels, "UUID": "GPU-1"}) for sample in alone]
    assert containers.label_faults([BUSY], other, series) == [
        "busy: label UUID: 'GPU-1', expected 'GPU-0'"
    ]
    elsewhere = [
        *alone,
        *(sample._replace(labels={**sample.labels, "gpu": "1"}) for sample in alone),
    ]
    assert containers.label_faults([BUSY], elsewhere, series) == [
        "busy has a series of GPU 1, which it was not given"
    ]
    unknown = [sample._replace(labels={**sample.labels, "container_id": "f"}) for sample in alone]
    assert containers.label_faults([BUSY], [*alone, *unknown], series) == [
        "a series of the container 'f', which was not started here"
    ]
    assert containers.label_faults([BUSY], [], series) == [
        "busy has no cdi_gen_container_gpu_held for GPU 0"
    ]


def _who(**changes: Any) -> dict[str, Any]:
    entries = [
        {
            "engine": loaded.engine,
            "id": loaded.id,
            "devices": [
                {"uuid": "GPU-0", "access": "allowed"},
                {"uuid": "GPU-1", "access": "refused"},
            ],
            "uses": [{"pid": pid, "memory": int(MEMORY[pid] * MIB)}],
        }
        | changes
        for loaded, pid in ((BUSY, 11), (SLEEPING, 20))
    ]
    return {"containers": entries}


def test_who_is_compared_with_nvidia_smi() -> None:
    assert commands.who_faults(_who(), [BUSY, SLEEPING], MEMORY) == []
    assert len(commands.who_faults(_who(), [BUSY, SLEEPING], {11: 2502, 20: 4600})) == 1
    assert len(commands.who_faults(_who(uses=[]), [BUSY, SLEEPING], MEMORY)) == 4
    assert len(commands.who_faults(_who(devices=[]), [BUSY, SLEEPING], MEMORY)) == 2
    lost = [{"uuid": "GPU-0", "access": "refused"}]
    assert len(commands.who_faults(_who(devices=lost), [BUSY, SLEEPING], MEMORY)) == 2
    both = [{"uuid": f"GPU-{index}", "access": "allowed"} for index in range(2)]
    assert len(commands.who_faults(_who(devices=both), [BUSY, SLEEPING], MEMORY)) == 2
    assert len(commands.who_faults({"containers": []}, [BUSY, SLEEPING], MEMORY)) == 2


def test_top_is_compared_with_nvidia_smi() -> None:
    def document(**changes: Any) -> dict[str, Any]:
        device = {"index": "0", "processes": 1, "memory": 2500 * MIB, "utilization": 0.98}
        return {
            "gpus": [{"index": "0", "uuid": "GPU-0", "fault": None}],
            "containers": [{"id": BUSY.id, "devices": [device | changes]}],
        }

    assert commands.top_faults(document(), [BUSY], GPUS[:1], MEMORY) == []
    for changes in ({"memory": None}, {"processes": 0}, {"utilization": 0.1}, {"index": "1"}):
        assert len(commands.top_faults(document(**changes), [BUSY], GPUS[:1], MEMORY)) == 1
    assert len(commands.top_faults(document(), [BUSY], GPUS[:2], MEMORY)) == 1


def test_doctor_has_to_say_that_the_driver_works() -> None:
    def document(status: str, driver: str = "580.1 (open kernel module)") -> dict[str, Any]:
        checks = [{"name": name, "status": "ok"} for name in commands.WORKING]
        return {
            "host": {"driver": driver},
            "checks": [*checks[1:], {**checks[0], "status": status}],
        }

    assert commands.doctor_faults(document("ok"), GPUS, "580.1") == []
    assert len(commands.doctor_faults(document("error"), GPUS, "580.1")) == 1
    assert len(commands.doctor_faults(document("ok", "not loaded"), GPUS, "580.1")) == 1


def test_why_has_to_say_that_the_container_works() -> None:
    def document(**changes: Any) -> dict[str, Any]:
        return {
            "id": BUSY.id,
            "pid": 10,
            "nodes": [{"path": "/dev/nvidia2", "state": "allowed"}],
            "libraries": {"versions": ["580.1"]},
            "findings": [],
        } | changes

    assert commands.why_container_faults(document(), BUSY, "580.1") == []
    mistakes: list[dict[str, Any]] = [
        {"pid": 20},
        {"nodes": []},
        {"libraries": {"versions": []}},
        {"findings": [{"code": "CDG-Y001", "message": "a node is missing"}]},
    ]
    for changes in mistakes:
        assert len(commands.why_container_faults(document(**changes), BUSY, "580.1")) == 1
    # The driver's libraries have made a node of another GPU: exactly then it must say so.
    nodes = [*document()["nodes"], {"path": "/dev/nvidia3", "state": "refused"}]
    made = [{"code": "CDG-Y214", "message": "/dev/nvidia3 was made in the container"}]
    assert commands.why_container_faults(document(nodes=nodes, findings=made), BUSY, "580.1") == []
    assert len(commands.why_container_faults(document(nodes=nodes), BUSY, "580.1")) == 1
    assert len(commands.why_container_faults(document(findings=made), BUSY, "580.1")) == 1
    lost = [{"path": "/dev/nvidia2", "state": "refused"}]
    assert (
        len(commands.why_container_faults(document(nodes=lost, findings=made), BUSY, "580.1")) == 1
    )
    answers = {"answers": [{"engine": "podman", "outcome": "works"}]}
    assert commands.why_name_faults(answers, "nvidia.com/gpu=0") == []
    answers["answers"][0]["outcome"] = "fails"
    assert len(commands.why_name_faults(answers, "nvidia.com/gpu=0")) == 1


def test_a_command_that_fails_is_a_fault() -> None:
    run = commands.Run(("who",), 0, "busy idle", "")
    assert commands.text_faults(run, "busy", "idle") == []
    assert len(commands.text_faults(run, "another")) == 1
    assert len(commands.text_faults(run._replace(status=1), "busy")) == 1


def test_a_scrape_is_parsed_by_prometheus_s_parser() -> None:
    text = '# TYPE a gauge\na{gpu="0",container="x\\"y"} 1.5\n'
    assert Scrape(0, 0, text).samples() == [Sample("a", {"gpu": "0", "container": 'x"y'}, 1.5)]


def test_every_series_is_read_under_its_name() -> None:
    """From release 0.26 on the parser renames counters without ``_total``."""
    text = render(families(snapshots.eight(), Options(names=("old", "new"))))
    lines = [line for line in text.decode().splitlines() if not line.startswith("#")]
    counter = "DCGM_FI_DEV_PCIE_REPLAY_COUNTER"
    assert any(line.startswith(f"{counter}{{") for line in lines)
    samples = Scrape(0, 0, text.decode()).samples()
    assert [sample.name for sample in samples] == [
        line.partition("{")[0].partition(" ")[0] for line in lines
    ]


def test_an_exporter_that_has_ended_costs_nothing() -> None:
    """Its processor time and memory are no figures."""
    exporter = Exporter("--no-such-option")
    with pytest.raises(OSError, match=r"has ended, exit 2: .*no-such-option"), exporter:
        pass
    log = "[1.0] Out of memory: Killed process 77 (python3)\n[2.0] python3[177]: segfault at 0\n"
    assert kernel_lines(77, log) == ["[1.0] Out of memory: Killed process 77 (python3)"]
    assert kernel_lines(177, log) == ["[2.0] python3[177]: segfault at 0"]
    assert ended_by(-11) == "SIGSEGV"
    assert ended_by(1) == "exit 1"


def test_a_running_exporter_is_measured(own_host: Callable[[str], FakeHost]) -> None:
    host = own_host("550-1gpu")
    options = ("--host-root", str(host.root), "--examine", "none")
    with Exporter(*options) as exporter:
        reading = exporter.cost()
        assert min(reading.memory, reading.peak, reading.threads, reading.descriptors) > 1
        assert reading.cpu >= reading.of_process
        exporter.kill()
        with pytest.raises(OSError, match="has ended, SIGKILL"):
            exporter.cost()


def test_the_idle_cost_is_that_of_the_window() -> None:
    before = Cost(cpu=1.5, of_process=1.0, memory=40 << 10, peak=41 << 10, threads=7, descriptors=9)
    after = before._replace(cpu=1.65, of_process=1.12)
    (line,), faults = cost.idle_text(before, after, 60)
    assert "0.25 % of a core (0.20 %" in line
    assert "40.0 MiB in RAM" in line
    assert faults == []
    (_, faults) = cost.idle_text(before, after._replace(cpu=2.1, memory=61 << 10), 60)
    assert len(faults) == 2


def test_summary_of_a_phase() -> None:
    rows = [
        _row("gpu_temp_celsius", [60], dmon_gtemp=[60.0]),
        _row("gpu_temp_celsius", [90], dmon_gtemp=[60.0])._replace(gpu="1"),
        _row("board_power_watts", [600], dmon_pwr=[600.0]),
        _row("pcie_replay_total", [], dmon_pci=[0.0]),
        _row("xid_error", [0]),
        _row("fan_speed_ratio", []),
    ]
    table = _container_rows(busy_processes=2)
    result = phases.Result("a phase", [], ["a fault"], rows, table, {}, {}, Scrape(0, 0, ""))
    assert dict(zip(phases.SUMMARY_HEAD, phases.summary(result), strict=True)) == {
        "phase": "a phase",
        "series": "5",
        "equal": "1",
        "DIFFERENT": "1",
        "MISSING": "1",
        "only ours": "1",
        "of no value": "1",
        "comparisons": "3",
        "values of containers": "6",
        "of these DIFFERENT": "1",
        "faults": "1",
    }


def test_a_share_above_the_whole_is_none() -> None:
    assert nvidia_smi.gpm_number(1, "99") == 99
    assert nvidia_smi.gpm_number(1, "1599830000") is None
    assert nvidia_smi.gpm_number(20, "1599") == 1599


def test_names_of_both_sets_are_known() -> None:
    names = phases.series_names()
    assert {"DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_GPU_UTIL_RATIO"} <= set(names)


def test_two_containers_share_a_gpu_and_each_other_one_has_one() -> None:
    loads = list(usage.loads_of(GPUS))
    assert [load.gpu.index for load in loads] == [0, 0, 1, 2]
    assert len({load.name for load in loads}) == len(loads)
    assert [load.way for load in loads[:2]] == [HOOK_FREE, SHIM]
    assert [load.gpu.index for load in usage.loads_of(GPUS[:1])] == [0, 0]
