"""progress.py: a bar on a screen, lines elsewhere, and what is said of strange losses."""

import os
import re
import subprocess
import sys
import time

import numpy
import pytest

from support import progress
from support.progress import LossWatch
import train
from conftest import TINY, Terminal, entries, posix, run, started, wait_for


def test_lines_into_a_pipe(small_text, capsys, monkeypatch):
    """With a line for each window instead of one a minute."""
    monkeypatch.setattr(progress, 'LINE_EVERY', 0)
    assert run(train, '--corpus', 'small.txt', *TINY) == 0
    out, err = capsys.readouterr()
    # the first window takes longer than others: after it nobody knows the time left
    pattern = r'epoch (\d+) of 2, (\d+)%: (?:([\d:]+) left, )?[\d,]+ words/s, loss ([\d.]+)'
    lines = [re.fullmatch(pattern, line) for line in out.splitlines() if line.startswith('epoch ')]
    lines = [line.groups() for line in lines if line]
    assert len(lines) == 2 * 19 and err == ''
    for epoch, entry in zip('12', entries('result/small')):
        shares = [int(share) for number, share, _, _ in lines if number == epoch]
        # 113 words in each stream, 6 in a window
        assert shares == [round(100 * min(6 * n, 113) / 113) for n in range(1, 20)]
        losses = [float(loss) for number, _, _, loss in lines if number == epoch]
        assert losses[-1] == pytest.approx(entry['main/loss'], abs=6e-4)
    assert [line for line in lines if not line[2]] == lines[:1] and lines[-1][2] == '00:00'


def test_a_short_run_into_a_pipe_is_only_a_table(small_text, capsys, monkeypatch):
    monkeypatch.setattr(progress, 'FIRST_LINE', 60)  # on a slow machine, too
    assert run(train, '--corpus', 'small.txt', *TINY) == 0
    assert ' left' not in capsys.readouterr().out


@posix
def test_a_bar_on_a_screen(small_text):
    """Epoch, loss, words per second and the time left; the table and the samples stand above it."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('4H', 40, 120, 0, 0))
    argv = ['--corpus', 'small.txt', *TINY, '--epoch', '4', '--sample-every', '2']
    screen = b''
    with started(*argv, stdout=theirs, stderr=subprocess.STDOUT) as process:
        os.close(theirs)
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # so ends a terminal
                break
            if not data:
                break
            screen += data
        assert process.wait() == 0
    os.close(ours)
    screen = screen.decode()
    bars = [piece for piece in re.split('[\r\n]', screen) if '%|' in piece]
    assert any(
        re.match(
            r'epoch [1-4] of 4: +\d+%.*\[\d\d:\d\d, \d\d:\d\d left, .* words/s, loss \d\.\d+\]', bar
        )
        for bar in bars
    ), bars
    table = [line for line in re.split('[\r\n]+', screen) if re.match(r'[1-4] |epoch  ', line)]
    assert [row.split()[0] for row in table] == ['epoch', *'1234']
    starts = [[cell.start() for cell in re.finditer(r'\S+', row)] for row in table]
    assert len(starts[0]) == 7 and all(start == starts[0] for start in starts)
    assert max(map(len, table)) < 80  # a row breaks on no screen
    assert screen.count('it writes ---') == 2


def test_the_clock_of_a_bar_goes_on_during_a_window(monkeypatch):
    monkeypatch.setattr(sys, 'stderr', Terminal())
    with progress.Progress(1, 1000, 0, numpy.zeros(3)) as shown:
        shown.add(3.0, 0.5, 1, 100, 1)
        wait_for(sys.stderr, '[00:02')


@pytest.mark.parametrize('saving, left', [(0, '00:40'), (9.5, '01:20')])
def test_the_time_left_is_that_of_the_whole_run(saving, left, capsys, monkeypatch):
    """Ten epochs of ten windows of half a second; the first of all takes half a minute.

    After two epochs 80 windows are left, and the saving that belongs to them.
    """
    clock = [100.0]
    monkeypatch.setattr(time, 'perf_counter', lambda: clock[0])
    monkeypatch.setattr(progress, 'LINE_EVERY', 0)
    with progress.Progress(10, 1000, 0, numpy.zeros(3)) as shown:
        for window in range(20):
            clock[0] += 0.5 if window else 30
            shown.add(3.0, 0.5, 1, 100, window + 1)
            if window == 9:
                with shown.saving():
                    clock[0] += saving
    assert f'epoch 2 of 10, 100%: {left} left' in capsys.readouterr().out


def test_what_takes_long_is_named_once(small_text):
    """A pipe is told at once here, and of each kind of work only the first time in a minute."""
    argv = ['--corpus', 'small.txt', *TINY, '--unit', 300]
    with started(*argv, constants='terminal.TELL_AFTER = 0') as process:
        _, err = process.communicate()
    assert process.returncode == 0
    told = [line.partition(' ... ')[0] for line in err.splitlines()]
    for what in ('making the network', 'computing the first window', 'evaluating', 'saving'):
        assert told.count(what) == 1, err


# Losses


@pytest.mark.parametrize('loss', ['inf', '-inf', 'nan'])
def test_a_loss_that_is_no_number(loss):
    with pytest.raises(FloatingPointError, match=f'the loss is {loss} at step 26'):
        LossWatch()(float(loss), 100, 'step 26')


@pytest.mark.parametrize(
    'losses, warnings',
    [
        ([4.0, 7.9], 0),
        ([4.0, 8.1], 1),
        ([0.1, 1.0], 0),
        ([0.1, 1.2], 1),
        ([4.0, 8.1, 8.0, 9.0], 1),
        ([4.0, 8.1, 17.0], 2),
        ([4.0, 2.0, 1.0, 0.5, 0.2, 0.1], 0),
        ([2.0, 2.5, 3.0, 3.5, 4.0], 0),
        ([3.0] * 5 + [1.0] * 100 + [2.5], 1),
    ],
)
def test_what_a_jump_is(losses, warnings):
    watch = LossWatch()
    said = [watch(loss, 100, 'step 7') for loss in losses for _ in range(5)]
    said = [warning for warning in said if warning]
    assert len(said) == warnings
    assert all('the loss jumped' in warning and 'step 7' in warning for warning in said)


def test_a_jump_is_only_told(small_text, capsys):
    assert run(train, '--corpus', 'small.txt', *TINY, '--epoch', 4) == 0
    assert run(train, '--resume', '--epoch', 6, '--lr', 1e-30) == 0
    assert capsys.readouterr().err == ''
    assert run(train, '--resume', '--epoch', 9, '--lr', 20) == 0
    assert 'the loss jumped from 2.' in capsys.readouterr().err
    assert len(entries('result/small')) == 9


def test_windows_of_few_words_are_not_taken_for_jumps(folder, capsys):
    """Every fourth of the windows, each a word, is one that nobody can guess."""
    noise = numpy.random.RandomState(0).randint(500, size=200)
    (folder / 'noise.txt').write_text(' '.join(f'a b c {n}' for n in noise), encoding='utf-8')
    argv = ['--corpus', 'noise.txt', *TINY, '--batchsize', 1, '--bproplen', 1, '--lr', 0.04]
    assert run(train, *argv, '--val-frac', 0, '--epoch', 1) == 0
    assert entries('result/noise')[-1]['main/loss'] < 4
    assert capsys.readouterr().err == ''
