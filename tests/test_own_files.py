"""generate.py: no file that the model has learned is replaced; which words a --start is."""

import os
import pathlib
import shutil
import unicodedata

import pytest

from support import checkpoint
from support.source import DATA
import generate
import train
from conftest import TINY, posix, run


@pytest.fixture
def refused(capsys):
    """refused(*argv): the one line of generate.py, which ends with 2; no file changes by it."""

    def check(*argv):
        files = {path: path.read_bytes() for path in pathlib.Path().rglob('*') if path.is_file()}
        capsys.readouterr()
        assert run(generate, *argv) == 2
        out, err = capsys.readouterr()
        assert out == '' and err.count('\n') == 1 and err.startswith('generate.py: '), err
        after = {path: path.read_bytes() for path in pathlib.Path().rglob('*') if path.is_file()}
        assert after == files
        return err

    return check


@posix
def test_the_text_that_was_learned(small_text, refused, monkeypatch):
    """By any name: another spelling, links, another current folder, an older run that goes on."""
    (small_text.parent / 'deep').mkdir()
    shutil.copy('small.txt', 'valid.txt')
    shutil.copy('small.txt', 'tested.txt')
    argv = ['--corpus', 'small.txt', *TINY, '--valid', 'deep/../valid.txt']
    assert run(train, *argv, '--test', small_text.parent / 'tested.txt') == 0
    assert run(train, '--resume', '--epoch', 3) == 0
    os.symlink('small.txt', 'link.txt')
    os.link('small.txt', 'hard.txt')
    names = ['small.txt', './small.txt', 'deep/../small.txt', 'link.txt', 'hard.txt', 'valid.txt']
    for name in (*names, 'tested.txt', small_text):
        assert f'--out {pathlib.Path(name)}: ' in refused('--length', 1, '--out', name)
    monkeypatch.chdir('deep')
    refused('--model', '../result/small', '--out', '../small.txt')
    refused('--model', '../result/small/best.npz', '--out', '../small.txt')
    assert run(generate, '--model', '../result/small', '--length', 1, '--out', 'small.txt') == 0
    assert run(generate, '--model', '../result/small', '--length', 1, '--out', 'small.txt') == 0


@posix
def test_a_text_that_was_learned_through_a_link(small_text, refused):
    os.symlink('small.txt', 'link.txt')
    assert run(train, '--corpus', 'link.txt', *TINY) == 0
    refused('--out', 'link.txt')
    refused('--out', 'small.txt')


def test_the_texts_of_a_folder(small_text, refused):
    pathlib.Path('library/deep').mkdir(parents=True)
    for name in ('library/a.txt', 'library/deep/b.txt', 'c.txt'):
        shutil.copy('small.txt', name)
    pathlib.Path('library/notes.md').write_text('not learned', encoding='utf-8')
    assert run(train, '--corpus', 'library', 'c.txt', *TINY, '--test', 'small.txt') == 0
    for name in ('library/a.txt', 'library/deep/../deep/b.txt', 'c.txt', 'small.txt'):
        refused('--out', name)
    for name in ('library/notes.md', 'library/new.txt'):
        assert run(generate, '--length', 1, '--out', name) == 0


def test_a_name_that_was_found_in_data(folder, monkeypatch, refused):
    argv = ['--corpus', 'hello.txt', '--level', 'char', *TINY, '--epoch', 1]
    assert run(train, *argv) == 0
    before = (DATA / 'hello.txt').read_bytes()
    refused('--out', DATA / 'hello.txt')
    assert (DATA / 'hello.txt').read_bytes() == before
    assert run(generate, '--length', 1, '--out', 'hello.txt') == 0  # here it is another file


@posix
def test_the_music_that_was_learned(folder, refused):
    pathlib.Path('tunes').mkdir()
    for name in ('song.mid', 'song-2.mid', 'tunes/a.mid'):
        shutil.copy(DATA / 'track1.mid', name)
    argv = ['--midi', 'song.mid', 'song-2.mid', 'tunes', *TINY, '--epoch', 1]
    assert run(train, *argv, '--valid', DATA / 'track1.mid') == 0
    for name in ('song.mid', './song.mid', 'tunes/a.mid', DATA / 'track1.mid'):
        assert f'--midi {pathlib.Path(name)}: ' in refused('--midi', name)
    assert '--midi song-2.mid: ' in refused('--num', 2, '--midi', 'song.mid')
    os.symlink('song.mid', 'plot.png')
    refused('--plot', 'plot.png')
    assert run(generate, '--midi', 'new.mid', '--length', 40, '--seed', 1) in (0, 1)


def test_equal_runs_know_equal_sources(small_text):
    for out in ('a', 'deep/b'):
        assert run(train, '--corpus', 'small.txt', *TINY, '--out', out) == 0
    assert pathlib.Path('a/last.npz').read_bytes() == pathlib.Path('deep/b/last.npz').read_bytes()
    assert checkpoint.load('a/last.npz').sources == [os.path.realpath('small.txt')]


# --start, --near, --stop


@pytest.fixture
def japanese(folder):
    """A model of a text in Japanese, which knows ガラス, 、 and Study in Scarlet."""
    text = '、ウィンスロウはガラスを見た。\nホームズは「Study in Scarlet」と言った。\n' * 9
    (folder / 'j.txt').write_text(text, encoding='utf-8')
    assert run(train, '--corpus', 'j.txt', *TINY) == 0


def started(capsys, *start):
    """What a text begins with that has no more words."""
    capsys.readouterr()
    assert run(generate, '--length', 0, '--start', *start) == 0
    return capsys.readouterr().out


def test_each_known_argument_is_taken_as_it_stands(japanese, capsys):
    vocabulary = checkpoint.load('result/j/last.npz').vocabulary
    assert 'ウィンスロウ' in vocabulary and '、' in vocabulary
    assert started(capsys, '、', 'ウィンスロウ') == '、ウィンスロウ\n'
    assert started(capsys, 'ウィンスロウ', 'は', 'ガラス') == 'ウィンスロウはガラス\n'
    assert started(capsys, 'ホームズは', 'ガラス', 'を') == 'ホームズはガラスを\n'
    assert started(capsys, 'ホームズ', '<eos>', 'ガラス') == 'ホームズ\nガラス\n'
    assert started(capsys, 'Study', 'in', 'Scarlet') == 'Study in Scarlet\n'
    assert started(capsys, 'Study in', 'Scarlet', 'は') == 'Study in Scarletは\n'


def test_words_in_another_normal_form(japanese, capsys, refused):
    decomposed = unicodedata.normalize('NFD', 'ガラス')
    assert decomposed != 'ガラス'
    assert started(capsys, decomposed) == 'ガラス\n'
    assert started(capsys, '\ufeffガラス') == 'ガラス\n'
    assert run(generate, '--near', decomposed) == 0
    assert run(generate, '--stop', decomposed, '--length', 3) == 0
    assert 'ガラス' in refused('--stop', 'ｶﾞﾗｽ').split('it knows')[1]
    assert 'ホームズ' in refused('--start', 'ﾎｰﾑｽﾞ').split('it knows')[1]


def test_a_text_that_was_decomposed_gives_the_same_model(japanese, folder):
    text = unicodedata.normalize('NFD', (folder / 'j.txt').read_text(encoding='utf-8'))
    (folder / 'nfd.txt').write_text('\ufeff' + text, encoding='utf-8')
    assert run(train, '--corpus', 'nfd.txt', *TINY) == 0
    one, other = (checkpoint.load(f'result/{name}/last.npz') for name in ('j', 'nfd'))
    assert one.vocabulary == other.vocabulary and one.crc == other.crc


@pytest.mark.parametrize('option', ['--start', '--near', '--stop'])
def test_words_in_the_bytes_of_another_terminal(trained, refused, option):
    word = 'ホームズ'.encode('cp932').decode('utf-8', 'surrogateescape')
    assert 'UTF-8' in refused(option, word)
