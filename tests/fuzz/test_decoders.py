"""Whatever bytes come, a decoder refuses them or takes them: it raises nothing else, and is quick about it.

100,000 inputs, with --long 1,000,000. A fault names the decoder and the input; put the input into `FOUND` to keep it as
a test of its own. PFN_FUZZ_SEED plays another series.
"""

import base64
import os
import time
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.decoders import Decoder, decoders

INPUTS = 100_000
INPUTS_LONG = 1_000_000
SECONDS_MAX = 0.25  # of the processor, for one input
SEED = int(os.environ.get("PFN_FUZZ_SEED", "1"))

# What was found once: name of the decoder, the input in base64.
FOUND: list[tuple[str, str]] = [
    ("author-data", "W1tbW1tbW1tbW1s="),  # nothing was found yet; this shows the form
]


def judge(decoder: Decoder, data: bytes) -> tuple[str, float]:
    """What is wrong with how the input was taken ("": nothing), and the seconds that it took."""
    started = time.thread_time()
    try:
        decoder.decode(data)
        wrong = ""
    except decoder.errors:
        wrong = ""
    except Exception as error:
        wrong = f"raised {error!r}"
    seconds = time.thread_time() - started
    return wrong or (f"took {seconds:.2f} s" if seconds > SECONDS_MAX else ""), seconds


def play(folder: Path, inputs: int) -> dict[str, int]:
    """So many inputs, spread over all decoders; how many each took."""
    all_of_them = decoders(folder)
    whole = sum(decoder.weight for decoder in all_of_them)
    played = {}
    for decoder in all_of_them:
        rng = Random(f"{SEED} {decoder.name}")
        played[decoder.name] = round(inputs * decoder.weight / whole) + 1
        for number in range(played[decoder.name]):
            data = decoder.make(rng)
            wrong, _ = judge(decoder, data)
            if wrong:
                found = base64.b64encode(data).decode()
                pytest.fail(
                    f"{wrong}: input {number} of seed {SEED}\n    ({decoder.name!r}, {found!r}),", pytrace=False
                )
    return played


def test_no_input_makes_a_decoder_raise_anything_but_its_refusal(tmp_path: Path) -> None:
    assert sum(play(tmp_path, INPUTS).values()) >= INPUTS


@pytest.mark.long
def test_a_million_inputs_make_no_decoder_raise_anything_but_its_refusal(tmp_path: Path) -> None:
    assert sum(play(tmp_path, INPUTS_LONG).values()) >= INPUTS_LONG


def test_some_of_the_inputs_are_still_taken(tmp_path: Path) -> None:
    """Else the changes would be too coarse to reach what lies behind the first check."""
    for decoder in decoders(tmp_path):
        rng, taken = Random(7), 0
        for _ in range(400):
            try:
                decoder.decode(decoder.make(rng))
                taken += 1
            except decoder.errors:
                pass
        assert taken > 0, decoder.name


def test_what_was_found_once_stays_mended(tmp_path: Path) -> None:
    by_name = {decoder.name: decoder for decoder in decoders(tmp_path)}

    assert [(name, judge(by_name[name], base64.b64decode(data))[0]) for name, data in FOUND] == [
        (name, "") for name, _ in FOUND
    ]
