# SPDX-License-Identifier: Apache-2.0
"""When the labels of a node are published, and what happens if that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.api import ApiError
from cdi_gen.kubernetes.labels.loop import Labeller
from cdi_gen.kubernetes.labels.settings import LabelSettings
from cdi_gen.kubernetes.probe import Facts, ProbeError
from tests.unit.kubernetes.nodes import inventory


@pytest.fixture
def reports() -> list[Finding]:
    return []


class Host:
    """A host whose facts a test sets."""

    def __init__(self) -> None:
        self.number = 0
        self.answer: Facts | CdiGenError = Facts(inventory=inventory("hgx-550-8gpu"))

    def fingerprint(self) -> object:
        return self.number

    def facts(self) -> Facts:
        if isinstance(self.answer, CdiGenError):
            raise self.answer
        return self.answer


class Place:
    """An output that keeps what is published."""

    def __init__(self) -> None:
        self.published: list[dict[str, str]] = []
        self.error: CdiGenError | None = None

    def publish(self, labels: dict[str, str]) -> str | None:
        if self.error:
            raise self.error
        self.published.append(labels)
        return None

    def withdraw(self) -> None: ...

    @property
    def counts(self) -> list[str | None]:
        return [labels.get("nvidia.com/gpu.count") for labels in self.published]


class TestLoop:
    GONE = ProbeError("no NVIDIA driver is loaded", code="CDG-H001")

    @pytest.fixture
    def host(self) -> Host:
        return Host()

    @pytest.fixture
    def place(self) -> Place:
        return Place()

    @pytest.fixture
    def labeller(self, host: Host, place: Place, reports: list[Finding]) -> Callable[..., Labeller]:
        def of(**options: Any) -> Labeller:
            settings = LabelSettings(output_file="-", **options)
            return Labeller(settings, host, place, reports.append, 1000.0)

        return of

    def test_labels_are_published_at_each_interval(
        self, labeller: Callable[..., Labeller], place: Place
    ) -> None:
        loop = labeller(sleep_interval=60.0)
        for now in (0.0, 5.0, 59.0, 60.0, 61.0, 120.0):
            loop.step(now)
        assert place.counts == ["8", "8", "8"]
        stamps = {labels["nvidia.com/gfd.timestamp"] for labels in place.published}
        assert stamps == {"1000"}, "the time when the settings were read"

    def test_a_change_of_the_host_is_published_soon(
        self, labeller: Callable[..., Labeller], host: Host, place: Place
    ) -> None:
        loop = labeller(sleep_interval=3600.0)
        assert loop.step(0.0) == 5.0
        host.number = 1
        loop.step(5.0)
        assert place.counts == ["8", "8"]

    def test_an_infinite_interval_publishes_once(
        self, labeller: Callable[..., Labeller], host: Host, place: Place
    ) -> None:
        loop = labeller(sleep_interval=None)
        for now in (0.0, 5.0, 1e6):
            loop.step(now)
            host.number += 1
        assert place.counts == ["8"]

    def test_a_host_without_a_driver_is_waited_for(
        self,
        labeller: Callable[..., Labeller],
        host: Host,
        place: Place,
        reports: list[Finding],
    ) -> None:
        whole, host.answer = host.answer, self.GONE
        loop = labeller()
        waits = [loop.step(now) for now in (0.0, 1.0, 3.0)]
        assert waits == [1.0, 2.0, 5.0]
        assert place.counts == [None], "the labels of an earlier time are withdrawn"
        host.answer = whole
        loop.step(8.0)
        assert place.counts == [None, "8"]
        assert [finding.code for finding in reports] == ["CDG-H001"]

    def test_labels_stay_while_the_host_cannot_be_examined(
        self, labeller: Callable[..., Labeller], host: Host, place: Place
    ) -> None:
        loop = labeller(fail_on_init_error=True)
        loop.step(0.0)
        host.answer = ProbeError("NVML has not answered for 60 s", code="CDG-N107")
        loop.step(60.0)
        assert place.counts == ["8"]

    def test_a_host_without_a_driver_is_an_error_if_the_settings_say_so(
        self, labeller: Callable[..., Labeller], host: Host
    ) -> None:
        host.answer = self.GONE
        with pytest.raises(ProbeError):
            labeller(fail_on_init_error=True).step(0.0)
        with pytest.raises(ProbeError):
            labeller(oneshot=True).publish_once()

    def test_one_shot_without_a_driver_can_be_a_success(
        self, labeller: Callable[..., Labeller], host: Host, place: Place
    ) -> None:
        host.answer = self.GONE
        labeller(oneshot=True, fail_on_init_error=False).publish_once()
        assert place.published == [{"nvidia.com/gfd.timestamp": "1000"}]

    def test_a_failed_publication_is_repeated_and_reported_once(
        self, labeller: Callable[..., Labeller], place: Place, reports: list[Finding]
    ) -> None:
        loop = labeller()
        place.error = ApiError("the API server does not answer")
        assert [loop.step(now) for now in (0.0, 1.0, 3.0, 8.0)] == [1.0, 2.0, 5.0, 5.0]
        assert [finding.code for finding in reports] == ["CDG-N307"]
        place.error = None
        loop.step(18.0)
        assert place.counts == ["8"]

    def test_the_machine_type_is_read_from_a_file(
        self, labeller: Callable[..., Labeller], place: Place, tmp_path: Path
    ) -> None:
        (tmp_path / "machine").write_text("My Machine\n")
        for path, name in ((tmp_path / "machine", "My-Machine"), (tmp_path / "none", "unknown")):
            labeller(machine_type_file=str(path)).publish_once()
            assert place.published[-1]["nvidia.com/gpu.machine"] == name
