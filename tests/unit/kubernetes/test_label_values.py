# SPDX-License-Identifier: Apache-2.0
"""The values of labels: families, characters, lengths."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdi_gen.errors import UsageError
from cdi_gen.kubernetes.labels import labels_findings
from cdi_gen.kubernetes.labels.settings import LabelSettings, label_settings, seconds
from cdi_gen.kubernetes.labels.values import family, joined, sanitised, valid
from cdi_gen.kubernetes.settings import DEFAULTS
from tests.unit.kubernetes.labelled import facts
from tests.unit.kubernetes.nodes import inventory


class TestValues:
    @pytest.mark.parametrize(
        ("capability", "name"),
        [
            ((1, 3), "tesla"), ((2, 0), "fermi"), ((3, 7), "kepler"), ((5, 2), "maxwell"),
            ((6, 1), "pascal"), ((7, 0), "volta"), ((7, 2), "volta"), ((7, 5), "turing"),
            ((8, 0), "ampere"), ((8, 7), "ampere"), ((8, 9), "ada-lovelace"), ((9, 0), "hopper"),
            ((10, 0), "blackwell"), ((12, 0), "blackwell"), ((13, 0), "rubin"),
            ((4, 0), "undefined"), ((11, 0), "undefined"), ((99, 0), "undefined"),
        ],
    )  # fmt: skip
    def test_families(self, capability: tuple[int, int], name: str) -> None:
        assert family(*capability) == name

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("NVIDIA TITAN X (Pascal)", "NVIDIA-TITAN-X-Pascal"),
            ("  Dell   PowerEdge R750xa ", "Dell-PowerEdge-R750xa"),
            ("Standard PC (i440FX + PIIX, 1996)", "Standard-PC-i440FX-PIIX-1996"),
            ("a_b.c-d", "a_b.c-d"),
            ("Größe", "Gre"),
            ("", ""),
        ],
    )
    def test_characters_that_a_label_cannot_have_are_left_out(self, text: str, value: str) -> None:
        assert sanitised(text) == value

    def test_a_value_begins_and_ends_with_a_letter_or_a_digit(self) -> None:
        assert valid("-.To be filled by O.E.M.") == "To-be-filled-by-O.E.M"
        assert valid("x" * 62 + "--y") == "x" * 62

    def test_a_long_model_is_shortened_and_its_profile_is_not(self) -> None:
        model = "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition"
        assert joined(model) == "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstation-Edition"
        value = joined(model, "MIG", "1g.24gb", "SHARED")
        assert value == "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstat-MIG-1g.24gb-SHARED"
        assert len(value) == 63
        assert joined("x" * 51 + " y", "MIG", "1g.24gb") == "x" * 51 + "-MIG-1g.24gb"

    def test_a_shortened_model_is_reported(self) -> None:
        host = inventory("flat-550-1gpu")
        host = replace(host, gpus=(replace(host.gpus[0], model="x" * 64),))
        (finding,) = labels_findings(facts(host), LabelSettings())
        assert finding.code == "CDG-N304"


class TestSettings:
    @pytest.mark.parametrize(
        ("text", "value"),
        [("60s", 60), ("1m30s", 90), ("2h", 7200), ("1.5h", 5400), ("300ms", 0.3), (".5s", 0.5)],
    )
    def test_intervals(self, text: str, value: float) -> None:
        assert seconds(text) == pytest.approx(value)

    def test_an_infinite_interval(self) -> None:
        assert seconds("infinite") is None

    @pytest.mark.parametrize("text", ["", "60", "1x", "s", "-1s", "1 s", "0s", "Infinite", "1s1"])
    def test_other_texts_are_no_intervals(self, text: str) -> None:
        with pytest.raises(UsageError, match="is not an interval"):
            seconds(text)

    def test_a_flag_wins_over_the_file(self) -> None:
        file = {"sleep_interval": "30s", "output_file": "/file", "oneshot": True}
        settings = label_settings(DEFAULTS, {"sleep_interval": "5s", "oneshot": None}, file)
        assert (settings.sleep_interval, settings.output_file, settings.oneshot) == (
            5,
            "/file",
            True,
        )
        assert settings.fails_without_gpus, "one shot without devices would be a success"

    @pytest.mark.parametrize(
        ("flags", "api"),
        [
            ({"node_name": "n"}, True),
            ({"output_file": "-"}, False),
            ({"node_feature_api": False}, False),
            ({"node_feature_api": True, "output_file": "/f", "node_name": "n"}, True),
            ({"patch_node": True, "output_file": "/f", "node_name": "n"}, True),
        ],
    )
    def test_where_the_labels_go(self, flags: dict[str, object], api: bool) -> None:
        assert label_settings(DEFAULTS, flags, {}).uses_api is api

    @pytest.mark.parametrize("name", ["", "a/b", "..", "A", "a?x=1", "x" * 254])
    def test_the_api_needs_the_name_of_a_node(self, name: str) -> None:
        with pytest.raises(UsageError, match="name of"):
            label_settings(DEFAULTS, {"node_name": name}, {})
