# SPDX-License-Identifier: Apache-2.0
"""Where nvidia-smi tells what a quantity of the catalogue tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cdi_gen.telemetry.kept import SELDOM

MHZ, MIB, MB, PERCENT = 1e6, float(2**20), 1e6, 0.01


class Source(NamedTuple):
    """One place in nvidia-smi's output."""

    place: str
    """``query NAME``, ``xml PATH``, ``dmon COLUMN``, ``gpm ID``."""
    factor: float = 1
    """The quantity is nvidia-smi's value multiplied by this."""
    margin: float = 1
    """The smallest margin in nvidia-smi's unit: its resolution, or what two ways of measuring
    may differ by."""
    is_last_resort: bool = False
    """Compared only if there is no other: it measures a shorter time, or something else."""


def _query(*names: str, factor: float = 1, margin: float = 1) -> tuple[Source, ...]:
    return tuple(Source(f"query {name}", factor, margin) for name in names)


def _xml(*paths: str, factor: float = 1, margin: float = 1) -> tuple[Source, ...]:
    return tuple(Source(f"xml {path}", factor, margin) for path in paths)


def _gpm(metric: int, factor: float = PERCENT, margin: float = 10) -> Source:
    return Source(f"gpm {metric}", factor, margin)


def _throttled(*reasons: str) -> tuple[Source, ...]:
    """Times in microseconds, which the service reads once in a minute."""
    counters = "clocks_event_reasons_counters"
    paths = (f"{counters}/{counters}_{reason}" for reason in reasons)
    return _xml(*paths, factor=1e-6, margin=1e6 * (SELDOM + 1))


SOURCES: Mapping[str, Sequence[Source]] = {
    "sm_clock_hertz": (
        *_query("clocks.sm", "clocks.current.sm", factor=MHZ, margin=15),
        Source("dmon pclk", MHZ, 15),
    ),
    "memory_clock_hertz": (
        *_query("clocks.mem", "clocks.current.memory", factor=MHZ),
        Source("dmon mclk", MHZ),
    ),
    "video_clock_hertz": _query("clocks.video", "clocks.current.video", factor=MHZ, margin=15),
    "sm_app_clock_hertz": (
        *_query("clocks.applications.graphics", factor=MHZ),
        *_xml("applications_clocks/graphics_clock", factor=MHZ),
    ),
    "memory_app_clock_hertz": (
        *_query("clocks.applications.memory", factor=MHZ),
        *_xml("applications_clocks/mem_clock", factor=MHZ),
    ),
    "sm_max_clock_hertz": _query("clocks.max.sm", factor=MHZ),
    "memory_max_clock_hertz": _query("clocks.max.mem", "clocks.max.memory", factor=MHZ),
    "video_max_clock_hertz": _xml("max_clocks/video_clock", factor=MHZ),
    "clocks_event_reasons": _query(
        "clocks_event_reasons.active", "clocks_throttle_reasons.active", margin=0
    ),
    "memory_temp_celsius": _query("temperature.memory"),
    "gpu_temp_celsius": (*_query("temperature.gpu"), Source("dmon gtemp")),
    "gpu_temp_margin_celsius": (
        *_query("temperature.gpu.tlimit"),
        *_xml("temperature/gpu_temp_tlimit"),
    ),
    "gpu_max_op_temp_celsius": _xml("temperature/gpu_temp_max_gpu_threshold"),
    "memory_max_op_temp_celsius": _xml("temperature/gpu_temp_max_mem_threshold"),
    "gpu_temp_slowdown_celsius": _xml("temperature/gpu_temp_slow_threshold"),
    "gpu_temp_shutdown_celsius": _xml("temperature/gpu_temp_max_threshold"),
    "fan_speed_ratio": _query("fan.speed", factor=PERCENT),
    "board_power_watts": (
        *_query("power.draw.average", "power.draw", margin=5),
        Source("dmon pwr", margin=5),
    ),
    "board_power_raw_watts": _query("power.draw.instant", margin=10),
    "board_power_limit_requested_watts": _query("power.limit"),
    "board_power_limit_enforced_watts": _query("enforced.power.limit"),
    "board_power_limit_default_watts": _query("power.default_limit"),
    "board_power_limit_min_watts": _query("power.min_limit"),
    "board_power_limit_max_watts": _query("power.max_limit"),
    "pcie_tx_bytes_per_second": (
        _gpm(20, MIB, 20),
        Source("dmon txpci", MB, 20, is_last_resort=True),
    ),
    "pcie_rx_bytes_per_second": (
        _gpm(21, MIB, 20),
        Source("dmon rxpci", MB, 20, is_last_resort=True),
    ),
    "pcie_replay_total": (*_xml("pci/replay_counter"), Source("dmon pci")),
    "pcie_link_gen": _query("pcie.link.gen.gpucurrent", "pcie.link.gen.current", margin=0),
    "pcie_link_width": _query("pcie.link.width.current", margin=0),
    "pcie_max_link_gen": _query("pcie.link.gen.max", margin=0),
    "pcie_max_link_width": _query("pcie.link.width.max", margin=0),
    "gpu_util_ratio": (
        *_query("utilization.gpu", factor=PERCENT, margin=2),
        Source("dmon sm", PERCENT, 2),
    ),
    "memory_util_ratio": (
        *_query("utilization.memory", factor=PERCENT, margin=5),
        Source("dmon mem", PERCENT, 5),
    ),
    "enc_util_ratio": (*_query("utilization.encoder", factor=PERCENT), Source("dmon enc", PERCENT)),
    "dec_util_ratio": (*_query("utilization.decoder", factor=PERCENT), Source("dmon dec", PERCENT)),
    "fb_free_bytes": _query("memory.free", factor=MIB),
    "fb_used_bytes": (*_query("memory.used", factor=MIB), Source("dmon fb", MIB)),
    "fb_reserved_bytes": (
        *_query("memory.reserved", factor=MIB),
        *_xml("fb_memory_usage/reserved", factor=MIB),
    ),
    "fb_capacity_bytes": _query("memory.total", factor=MIB),
    "bar1_capacity_bytes": _xml("bar1_memory_usage/total", factor=MIB),
    "bar1_used_bytes": (*_xml("bar1_memory_usage/used", factor=MIB), Source("dmon bar1", MIB)),
    "bar1_free_bytes": _xml("bar1_memory_usage/free", factor=MIB),
    "nvlink_tx_bytes_per_second": (_gpm(61, MIB, 20),),
    "nvlink_rx_bytes_per_second": (_gpm(60, MIB, 20),),
    "row_remap_uncorrectable_total": (
        *_query("remapped_rows.uncorrectable", margin=0),
        *_xml("remapped_rows/remapped_row_unc", margin=0),
    ),
    "row_remap_correctable_total": (
        *_query("remapped_rows.correctable", margin=0),
        *_xml("remapped_rows/remapped_row_corr", margin=0),
    ),
    "row_remap_failed": (
        *_query("remapped_rows.failure", margin=0),
        *_xml("remapped_rows/remapped_row_failure", margin=0),
    ),
    "row_remap_pending": (
        *_query("remapped_rows.pending", margin=0),
        *_xml("remapped_rows/remapped_row_pending", margin=0),
    ),
    **{
        f"bank_remap_avail_{part}": (
            *_query(f"remapped_rows.histogram.{part}", margin=0),
            *_xml(f"remapped_rows/row_remapper_histogram/row_remapper_histogram_{part}", margin=0),
        )
        for part in ("max", "high", "partial", "low", "none")
    },
    "page_retired_sbe_total": _query(
        "retired_pages.sbe", "retired_pages.single_bit_ecc.count", margin=0
    ),
    "page_retired_dbe_total": _query(
        "retired_pages.dbe", "retired_pages.double_bit.count", margin=0
    ),
    "page_retired_pending": _query("retired_pages.pending", margin=0),
    "ecc_sbe_vol_total": _query("ecc.errors.corrected.volatile.total", margin=0),
    "ecc_sbe_agg_total": _query("ecc.errors.corrected.aggregate.total", margin=0),
    "ecc_dbe_vol_total": _query("ecc.errors.uncorrected.volatile.total", margin=0),
    "ecc_dbe_agg_total": _query("ecc.errors.uncorrected.aggregate.total", margin=0),
    "sram_exceeded": _xml("ecc_errors/aggregate/sram_threshold_exceeded", margin=0),
    "gr_engine_util_ratio": (_gpm(1),),
    "sm_util_ratio": (_gpm(2),),
    "sm_occupancy_ratio": (_gpm(3),),
    "int_util_ratio": (_gpm(4),),
    "tensor_util_ratio": (_gpm(5),),
    "dfma_util_ratio": (_gpm(6),),
    "hmma_util_ratio": (_gpm(7),),
    "imma_util_ratio": (_gpm(9),),
    "dram_util_ratio": (_gpm(10),),
    "fp64_util_ratio": (_gpm(11),),
    "fp32_util_ratio": (_gpm(12),),
    "fp16_util_ratio": (_gpm(13),),
    "gpu_pstate": _query("pstate", margin=0),
    "gpu_compute_mode": _query("compute_mode", margin=0),
    "gpu_persistence_mode": _query("persistence_mode", margin=0),
    "mig_mode": _query("mig.mode.current", margin=0),
    "ecc_mode": _query("ecc.mode.current", margin=0),
    "ecc_pending": _query("ecc.mode.pending", margin=0),
    "fabric_manager_status": (*_query("fabric.state", margin=0), *_xml("fabric/state", margin=0)),
    "gpu_power_throttle_seconds_total": _throttled("sw_power_cap"),
    "gpu_sync_boost_throttle_seconds_total": _throttled("sync_boost"),
    "gpu_thermal_throttle_seconds_total": _throttled("sw_therm_slowdown", "sw_thermal_slowdown"),
}
"""Several sources: the first ones are preferred, and all that nvidia-smi has are compared."""

QUERY_NAMES = tuple(
    dict.fromkeys(
        source.place.removeprefix("query ")
        for sources in SOURCES.values()
        for source in sources
        if source.place.startswith("query ")
    )
)
GPM_METRICS = tuple(
    sorted(
        {
            int(source.place.removeprefix("gpm "))
            for sources in SOURCES.values()
            for source in sources
            if source.place.startswith("gpm ")
        }
    )
)
