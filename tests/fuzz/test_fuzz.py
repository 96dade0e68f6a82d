"""Whatever a file holds, reading it ends in success or in one of retune's own errors, and soon.

`make fuzz` tries 20,000 inputs of each kind, CI a small share of them; each failing input that was
found lies in `corpus/KIND`, and is read by every run of the tests.
"""

from __future__ import annotations

import os
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from retune.errors import RetuneError
from tests.fuzz.kinds import KINDS, Kind, Read
from tests.fuzz.mutating import AT_ONCE, Input, inputs

COUNT = int(os.environ.get("RETUNE_FUZZ_INPUTS", "200"))
"""Inputs of each kind."""
SEED = os.environ.get("RETUNE_FUZZ_SEED")
"""Draws others than CI's, which are the same in every run."""
LIMIT_S = 60
CORPUS = Path(__file__).with_name("corpus")
FOUND = Path(tempfile.gettempdir()) / "retune-fuzz"
"""Where inputs that fail are left; `CASE~NAME` in the corpus is where they go."""
NEVER_REFUSED = ("predictions", "request_logs")
"""An answer is right or wrong, a line of a log is read or told as bad: none is an error."""
KEPT = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


class TooLong(BaseException):
    """An input that is read for longer than `LIMIT_S`; no `except Exception` takes it."""


@contextmanager
def limited() -> Iterator[None]:
    """End what takes too long."""

    def stop(number: int, frame: object) -> None:
        raise TooLong(f"still reading after {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome_of(read: Read, each: Input, folder: Path) -> str:
    """Read an input; the name of retune's error where it is refused."""
    path = folder / each.name
    path.write_bytes(each.content)
    with limited():
        try:
            read(path)
        except RetuneError as error:
            # What is told has to be tellable.
            assert error.message.strip()
            error.message.encode("utf-8")
            return type(error).__name__
    return "read"


class Fuzzing:
    """Reads drawn inputs, and keeps the smallest that fails at each place of the code."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.outcomes: Counter[str] = Counter()
        self.failed: dict[str, Input] = {}

    def run(self) -> None:
        """Draw and read `COUNT` inputs."""
        with self.kind.opened(self.folder) as read:

            def try_all(several: list[Input]) -> None:
                for each in several:
                    self._read(read, each)

            drawn = given(inputs(self.kind.seeds(), self.kind.tree))(try_all)
            if SEED is not None:
                drawn = seed(int(SEED))(drawn)
            settings(
                max_examples=-(-COUNT // AT_ONCE),
                derandomize=SEED is None,
                database=None,
                # A failure is kept, not raised: to shrink each one would take longer than to look.
                phases=(Phase.generate,),
                suppress_health_check=list(HealthCheck),
            )(drawn)()

    def _read(self, read: Read, each: Input) -> None:
        try:
            self.outcomes[outcome_of(read, each, self.folder)] += 1
        except (Exception, TooLong) as error:  # noqa: BLE001 - what is looked for
            place = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in place if "/retune/" in frame.filename] or list(place)
            # Its message may hold the input; the place is what tells one fault from another.
            name = f"{type(error).__name__} in {own[-1].name}, {Path(own[-1].filename).name}"
            self.outcomes["failed"] += 1
            known = self.failed.get(name)
            if known is None or len(each.content) < len(known.content):
                self.failed[name] = each

    def describe(self) -> str:
        """Say what failed, and write each failing input to a file."""
        lines = []
        for number, (name, each) in enumerate(self.failed.items()):
            path = FOUND / self.kind.name / f"{number}~{each.name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(each.content)
            lines.append(f"{name}: {path}: {each.content[:200]!r}")
        return "\n".join(lines)


@pytest.mark.parametrize("name", KINDS)
def test_no_input_ends_in_anything_but_an_own_error(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the drawn inputs some are read and some refused: neither alone would test anything."""
    fuzzing = Fuzzing(KINDS[name], tmp_path)
    fuzzing.run()
    counts = fuzzing.outcomes
    if "RETUNE_FUZZ_INPUTS" in os.environ:
        with capsys.disabled():
            print(f"\n{name}: {counts.total():,} inputs: {dict(counts.most_common())}")
    assert not fuzzing.failed, fuzzing.describe()
    assert counts["read"] > 0
    assert counts.total() > counts["read"] or name in NEVER_REFUSED


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_once_failed_is_read_or_refused(path: Path, tmp_path: Path) -> None:
    """The corpus: a file `CASE~NAME` is read under its name."""
    name = path.name.partition("~")[2]
    with KINDS[path.parent.name].opened(tmp_path) as read:
        outcome_of(read, Input(name, path.read_bytes()), tmp_path)


def test_the_corpus_is_of_known_kinds() -> None:
    assert {path.parent.name for path in KEPT} <= set(KINDS)
