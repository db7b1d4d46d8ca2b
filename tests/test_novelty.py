"""bench/novelty.py against counting by hand."""
import pytest

from bench import novelty


def test_runs_and_shares():
    seen = novelty.Seen('a b c d a b e'.split())
    assert seen.longest_run('x b c d b a b e c'.split()) == ['b', 'c', 'd']  # and a b e, later
    assert seen.longest_run(['ab', 'cd']) == []  # whole words only
    assert seen.longest_run('a b c d a b e'.split()) == 'a b c d a b e'.split()
    assert seen.share('a b d'.split(), 1) == 1
    assert seen.share('a b d'.split(), 2) == 0.5  # a b, not b d
    assert seen.share('a b d'.split(), 4) is None


@pytest.mark.parametrize('level, longest, shares', [
    ('word', '6', ['85.7%', '83.3%', '80.0%', '75.0%', '66.7%', '-']),  # cat sat on the mat <eos>
    ('char', '23', ['92.0%', '91.3%', '84.2%', '80.0%', '72.7%', '0.0%'])])
def test_the_table(folder, capsys, level, longest, shares):
    (folder / 'learned.txt').write_text('the cat sat on the mat\nthe dog saw it\n')
    (folder / 'written.txt').write_text({'word': 'my cat sat on the mat\n', 'char': 'Q: the cat sat on the mat\n'}[level])
    assert novelty.main(['learned.txt', 'written.txt', '--level', level, '--val-frac', '0']) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith('written.txt')).split()
    assert row[2:] == [longest, *shares]


def test_what_cannot_be_read(folder, capsys):
    assert novelty.main(['holmes.txt', 'none.txt']) == 1
    assert 'none.txt' in capsys.readouterr().err
