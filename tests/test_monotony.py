"""bench/music.py against counting by hand."""

import pytest

from bench import music as monotony
from read_midi import Setup

WALTZ = Setup('01e0', {'ff58': 'ff580403021808'})  # 480 ticks a quarter, bars of three


def tune(keys, rest=False):
    """Quarters; with a rest, eighths with a rest of an eighth behind each."""
    step, pause = ('8170', '8170') if rest else ('8360', '00')
    words = []
    for key in keys:
        words += [f'{pause if words else "00"}_90_{key:02x}50', f'{step}_80_{key:02x}40']
    return monotony.Piece(words, WALTZ)


def test_measures_of_a_tune():
    source = tune([60, 62, 64, 65, 67, 65])
    found = tune([60, 62, 64, 60, 62, 64, 60, 62, 66]).measures(source)
    assert found['pitches'] == 3 / 5
    assert found['rhythms'] == 1
    assert found['bars'] == pytest.approx(1 / 3)  # three bars, the second is the first
    assert found['phrases'] == 0
    assert found['range'] == 6
    assert found['rests'] == 0
    assert found['scale'] == pytest.approx(8 / 9)  # no F# in the source
    assert found['copied'] == 6  # C D E, on and off


def test_repeated_phrases_and_rests():
    piece = tune([60, 62, 64, 65] * 5, rest=True)
    # 19 figures make 12 runs of eight, of which four differ
    bars, phrases = piece.heard_before()
    assert phrases == pytest.approx(8 / 12)
    assert bars == pytest.approx(2 / 7)  # C D E and F C D come twice, E F C, D E F and E F once
    assert piece.rests() == pytest.approx(19 / 39)
    assert piece.measures(tune([60, 62, 64, 65]))['rhythms'] == 1


def test_the_source_in_stretches():
    words = tune([60, 62, 64, 65, 67, 65]).words
    assert [len(piece.words) for piece in monotony.stretches(words, WALTZ, 5)] == [5, 5]
    assert [len(piece.words) for piece in monotony.stretches(words, WALTZ, 50)] == [12]


def test_it_trains_once_and_prints_a_table(folder, capsys):
    options = ['track1.mid', '--bproplen', '35', '--epoch', '1', '--num', '2', '--length', '40']
    options += ['--temperature', '0.8', '1', '--out', 'models']
    assert monotony.main(options) == 0
    first = capsys.readouterr().out
    table = [line for line in first.splitlines() if line.startswith('|')]
    assert [line.split(' | ')[0] for line in table[2:]] == [
        '| the source',
        '| held out',
        '| 2, 35, 0.8',
        '| 2, 35, 1.0',
    ]
    assert len({line.count('|') for line in table}) == 1
    assert monotony.main(options) == 0
    again = capsys.readouterr().out
    assert 'are done already' in again
    assert [line for line in again.splitlines() if line.startswith('|')] == table
