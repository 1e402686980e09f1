"""The truth matrix's own rules: where what the audit says and what came back disagree."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.cells import MIB, OLD_MIB
from lab.truth import Seen, disagreements, page_of
from reclaim.space.diagnosis import UNKNOWN

GREEN = Seen(
    machine="pc-i440fx-7.2",
    bus="virtio-scsi",
    discard="unmap",
    image="raw",
    disc_max=1024 * MIB,
    claimed=900 * MIB,
    old=OLD_MIB * MIB,
    canary=16 * MIB,
    returned=16 * MIB,
    layer="",
    problem="",
    red={"scsi": {}, "any-discarding": {}},
    accepted={"scsi": "compliant", "any-discarding": "compliant"},
)


def red(*slugs: str) -> dict[str, dict[str, str]]:
    return {policy: dict.fromkeys(slugs, "why") for policy in GREEN.red}


def test_green_and_all_came_back() -> None:
    assert disagreements([GREEN]) == []


def test_red_although_all_came_back_is_no_disagreement() -> None:
    """A machine type may be too old for other reasons than this cell's."""
    assert disagreements([replace(GREEN, red=red("machine-type"))]) == []


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        pytest.param(replace(GREEN, old=0), "green with bus 'scsi', and not all came back", id="old file"),
        pytest.param(
            replace(GREEN, returned=15 * MIB, layer="x"), "green with bus 'any-discarding'", id="95 % of the canary"
        ),
        pytest.param(
            replace(GREEN, returned=0, red=red("disk-discard")), "the proof names no layer", id="no layer by the proof"
        ),
        pytest.param(
            replace(GREEN, returned=0, layer=UNKNOWN, red=red("disk-discard")), "names no layer", id="unknown layer"
        ),
        pytest.param(
            replace(GREEN, returned=0, layer="x", red=red("disk-bus")),
            "the audit names no layer that keeps it",
            id="red for another reason",
        ),
        pytest.param(replace(GREEN, problem="inconclusive"), "nothing was proved: inconclusive", id="inconclusive"),
        pytest.param(
            replace(GREEN, bus="virtio", accepted={"scsi": "noncompliant", "any-discarding": "not-assessable"}),
            "bus 'any-discarding' says not-assessable",
            id="not accepted where it works",
        ),
        pytest.param(
            replace(GREEN, bus="virtio", returned=0, old=0, layer="x", red=red("disc-max")),
            "bus 'any-discarding' says compliant",
            id="accepted where it does not work",
        ),
    ],
)
def test_a_disagreement_is_told(seen: Seen, words: str) -> None:
    assert any(words in one for one in disagreements([seen]))


def test_the_page_has_every_cell_and_what_is_red() -> None:
    backed = replace(GREEN, image="backed", old=0, returned=0, layer="x", red=red("image-format"))
    text = page_of([GREEN, backed], ["pc-i440fx-4.0", "pc-i440fx-7.2"], ["pc-i440fx-1.6"], "the head\n")
    assert text.startswith("the head\n")
    assert "This QEMU has no pc-i440fx-1.6 any more." in text
    assert "Not every guest was run" in text
    assert "| pc-i440fx-4.0 | not run | not run | not run | not run |" in text
    assert "| pc-i440fx-7.2 | not run | 100 % | not run | not run |" in text
    assert "| virtio-scsi | unmap | raw | 1024 MiB | 900 MiB | 100 % | 100 % | **green** | compliant |" in text
    assert "| virtio-scsi | unmap | backed | 1024 MiB | 900 MiB | 0 % | 0 % | image-format | compliant |" in text
