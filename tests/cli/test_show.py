"""Tables as text."""

from __future__ import annotations

from kgen.cli.progress import Counting
from kgen.cli.show import plural, print_table


def test_numbers_stand_right_and_words_left(capsys):
    print_table([{"a": 1, "b": "x"}, {"a": 100, "b": "long"}, {"a": None, "b": ""}], ("a", "b"))
    assert capsys.readouterr().out == "  a  b\n  1  x\n100  long\n  -\n"


def test_an_empty_table_is_its_head(capsys):
    print_table([], ("a", "b"), {"b": "B"})
    assert capsys.readouterr().out == "a  B\n"


def test_counts_agree_with_their_noun():
    assert (plural(1, "kernel"), plural(0, "kernel")) == ("1 kernel", "0 kernels")


def test_progress_without_a_terminal_is_a_line_per_tenth(capsys):
    with Counting("work") as bar:
        for done in range(1, 101):
            bar.step(done, 100, "piece", 100.0 - done)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[4] == "work: 50 of 100, 50 s left"
    assert lines[-1] == "work: 100 of 100"
