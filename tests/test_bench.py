"""Programs of bench/ that no other test runs: they work, and their numbers are plausible."""

import math
import pathlib
import re
import subprocess
import sys

import numpy
import pretty_midi
import pytest

from bench import learning

BENCH = pathlib.Path(__file__).resolve().parents[1] / 'bench'
TINY = '--unit 16 --dropout 0 --batchsize 2 --bproplen 8 --epoch 2 --optimizer sgd'.split()


def output_of(program, *argv):
    command = [sys.executable, BENCH / program, *map(str, argv)]
    done = subprocess.run(command, capture_output=True, text=True, encoding='utf-8')
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize('methods', [[], ['average', 'vary']])
def test_learning_prints_perplexities(tmp_path, methods):
    """Of a text in which each word follows from the one before: better than chance."""
    path = tmp_path / 'abc.txt'
    path.write_text('a b c d\n' * 300, encoding='utf-8')
    argv = [*methods, '--', '--corpus', path, *TINY]
    rows = [
        line.split() for line in output_of('learning.py', *argv).splitlines() if line[0] in '12'
    ]
    assert [row[0] for row in rows] == ['1', '2']
    names = ['train', 'validation'] + ['average'] * ('average' in methods)
    assert all(row[1::2] == names for row in rows)
    assert all(1 <= float(perplexity) < 5 for perplexity in rows[1][2::2])  # it has five words
    assert float(rows[1][2]) < float(rows[0][2])


@pytest.mark.parametrize('usual, varied', [(35, False), (35, True), (70, True)])
def test_windows_of_an_epoch(usual, varied):
    """They end with the epoch; varied, they are as long as usual, one in twenty half so long."""
    length, random = 100_000, numpy.random.RandomState(0) if varied else None
    steps = learning.windows(length, usual, random)
    assert 0 <= sum(steps) - length < steps[-1]
    if varied:
        assert min(steps) >= 5 and abs(numpy.mean(steps) / usual - 0.975) < 0.02
    else:
        assert {*steps} == {usual}


@pytest.mark.parametrize(
    'program, options, message',
    [
        ('learning.py', ['--', '--corpus', 'nothing'], 'nothing: no such file'),
        ('learning.py', ['--', '--corpus', 'holmes.txt', '--resume'], '--resume has no effect'),
        ('learning.py', ['--', '--corpus', 'holmes.txt', '--val-frac', '0'], '--val-frac 0'),
        ('learning.py', ['better'], 'methods are average and vary'),
        ('nottingham.py', ['nothing'], 'nothing: no folder of the melodies'),
        ('nottingham.py', ['nothing', '--grid', '12'], '--grid has no effect'),
    ],
)
def test_wrong_use_is_one_line(program, options, message):
    command = [sys.executable, BENCH / program, *options]
    done = subprocess.run(command, capture_output=True, text=True, encoding='utf-8')
    (line,) = [line for line in done.stderr.splitlines() if ' ... ' not in line]
    assert done.returncode in (1, 2) and line.startswith(program) and message in line


def test_nottingham_compares_with_a_5_gram_model(tmp_path):
    for number in range(12):
        tune, piano = pretty_midi.PrettyMIDI(), pretty_midi.Instrument(0)
        for i in range(24):
            pitch = 60 + (i * (1, 5, 7, 11)[number % 4]) % 12
            piano.notes.append(pretty_midi.Note(80, pitch, i / 4, i / 4 + 0.125))
        tune.instruments.append(piano)
        tune.write(str(tmp_path / f'jigs{number:02}.mid'))
    printed = output_of('nottingham.py', tmp_path, *TINY, '--out', tmp_path / 'run')
    perplexities = [float(number) for number in re.findall(r'perplexity ([\d.]+)', printed)]
    assert len(perplexities) == 4 and all(1 < p < math.inf for p in perplexities)
