"""Standard output and error: what a terminal, a pipe or a disk cannot take ends nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from tests.tiny_models import REPOSITORY


def run(
    body: str,
    *,
    into: str = "",
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    **environment: str,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program that settles its streams first, below a shell that redirects it."""
    program = "from retune.streams import *\nsettle_streams()\n" + textwrap.dedent(body)
    paths = os.pathsep.join(map(str, (REPOSITORY / "src", REPOSITORY)))
    return subprocess.run(
        ["bash", "-c", f'exec "$0" -c "$1" {into}', sys.executable, program],
        stdout=stdout,
        stderr=stderr,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": paths, **environment},
        check=False,
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "cp850:strict"])
def test_signs_that_a_terminal_does_not_know_are_replaced(encoding: str) -> None:
    """No encoding of these has U+6F22; each becomes one question mark, and the rest is shown."""
    done = run("print('a\\u6f22b')", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stdout) == (0, b"a?b\n")


def test_the_c_locale_without_utf8_ends_nothing() -> None:
    """Python then writes ASCII, strictly but for undecodable names."""
    done = run("print('\\xe7')", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (done.returncode, done.stdout) == (0, b"?\n")


def test_a_name_that_is_no_text_can_be_shown_in_utf8() -> None:
    """os.listdir gives the byte FF as U+DCFF, which UTF-8 refuses to write."""
    done = run("print('a\\udcffb')", PYTHONIOENCODING="utf-8")
    assert (done.returncode, done.stdout) == (0, b"a?b\n")


def test_what_the_user_chose_for_unknown_signs_stands() -> None:
    """PYTHONIOENCODING may name a way of its own, and standard error has one: both are kept."""
    done = run(
        "print('\\u6f22')\nprint('\\u6f22', file=sys.stderr)",
        PYTHONIOENCODING="ascii:xmlcharrefreplace",
    )
    assert (done.stdout, done.stderr) == (b"&#28450;\n", b"\\u6f22\n")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_left_ends_nothing(stream: str) -> None:
    """A pipe without a reader: what rich prints is dropped, and the exit code stands."""
    read, write = os.pipe()
    os.close(read)
    done = run(
        f"""
        from rich.console import Console
        for _ in range(200):
            Console(file=sys.{stream}).print("x" * 1000)
        assert lost_output() is None
        sys.exit(5)
        """,
        **{stream: write},
    )
    os.close(write)
    assert done.returncode == 5
    assert not done.stdout
    assert not done.stderr


def test_closed_streams_end_nothing_and_lend_no_file_their_number() -> None:
    """A file that is opened later does not become standard output, with all that is printed."""
    done = run(
        """
        import tempfile
        with tempfile.TemporaryFile() as file:
            print("lost")
            assert file.fileno() > 2
            file.seek(0)
            assert file.read() == b""
        """,
        into="<&- >&- 2>&-",
    )
    assert done.returncode == 0


def test_a_full_disk_is_said_and_ends_nothing() -> None:
    """/dev/full takes nothing: the program ends well, and can say that its output is lost."""
    done = run(
        "print('x', flush=True)\nprint(lost_output(), file=sys.stderr)\n", into="> /dev/full"
    )
    told = b"stdout could not be written (No space left on device): what it got is incomplete.\n"
    assert (done.returncode, done.stderr) == (0, told)


def test_streams_that_are_not_the_interpreters_own_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook or a test has put its own in place: they are left alone."""
    from retune.streams import settle_streams

    own = sys.stdout
    assert own is not sys.__stdout__
    settle_streams()
    assert sys.stdout is own
