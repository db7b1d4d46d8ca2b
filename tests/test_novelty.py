"""bench/novelty.py against counting by hand."""

import hypothesis
import pytest
from hypothesis import strategies

from bench import novelty


def test_runs_and_shares():
    def seen(words):
        return novelty.Seen('a b c d a b e'.split(), words.split())

    assert seen('x b c d b a b e c').longest_run() == ['b', 'c', 'd']  # and a b e, later
    assert seen('ab cd').longest_run() == []  # whole words only
    assert seen('').longest_run() == []
    assert seen('a b c d a b e').longest_run() == 'a b c d a b e'.split()
    assert seen('a b d').share(1) == 1
    assert seen('a b d').share(2) == 0.5  # a b, not b d
    assert seen('a b d').share(4) is None


@hypothesis.given(
    strategies.text('ab', max_size=40),
    strategies.text('abc', max_size=20),
    strategies.integers(1, 21),
)
def test_the_same_by_searching(learned, written, n):
    seen = novelty.Seen(list(learned), list(written))
    grams = [written[i : i + n] for i in range(len(written) - n + 1)]
    assert list(seen(n)) == [gram in learned for gram in grams]
    parts = [written[i:j] for i in range(len(written) + 1) for j in range(i, len(written) + 1)]
    assert ''.join(seen.longest_run()) == max((part for part in parts if part in learned), key=len)


@pytest.mark.parametrize(
    'level, longest, shares',
    [
        (
            'word',
            '6',
            ['85.7%', '83.3%', '80.0%', '75.0%', '66.7%', '-'],
        ),  # cat sat on the mat <eos>
        ('char', '23', ['92.0%', '91.3%', '84.2%', '80.0%', '72.7%', '0.0%']),
    ],
)
def test_the_table(folder, capsys, level, longest, shares):
    (folder / 'learned.txt').write_text(
        'the cat sat on the mat\nthe dog saw it\n', encoding='utf-8'
    )
    (folder / 'written.txt').write_text(
        {'word': 'my cat sat on the mat\n', 'char': 'Q: the cat sat on the mat\n'}[level],
        encoding='utf-8',
    )
    assert novelty.main(['learned.txt', 'written.txt', '--level', level, '--val-frac', '0']) == 0
    row = next(
        line for line in capsys.readouterr().out.splitlines() if line.startswith('written.txt')
    ).split()
    assert row[2:] == [longest, *shares]


def test_what_cannot_be_read(folder, capsys):
    assert novelty.main(['holmes.txt', 'none.txt']) == 1
    assert 'none.txt' in capsys.readouterr().err


def test_from_a_closed_stdin(monkeypatch, capsys):
    monkeypatch.setattr('sys.stdin', None)
    assert novelty.main(['holmes.txt', '-']) == 1
    assert 'stdin' in capsys.readouterr().err
