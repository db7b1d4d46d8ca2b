"""train.py: several texts, the tokenizer that is chosen, long epochs, what stops a reading."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy
import pytest

from support import checkpoint
import train
from conftest import TINY, posix


def run(*argv):
    try:
        return train.main([str(arg) for arg in argv])
    except SystemExit as exit:
        return exit.code


def arrays(path):
    with numpy.load(path) as npz:
        return {name: npz[name] for name in npz if name.startswith('model/')}


def test_several_texts_are_one(small_text):
    lines = small_text.read_text(encoding='utf-8').splitlines(keepends=True)
    pathlib.Path('a.txt').write_text(''.join(lines[:20]), encoding='utf-8')
    pathlib.Path('b.txt').write_text(''.join(lines[20:]), encoding='utf-8')
    for name in ('valid', 'test'):
        pathlib.Path(f'{name}.txt').write_text(''.join(lines[:4]), encoding='utf-8')
    assert run('--corpus', 'small.txt', *TINY) == 0
    assert run('--corpus', 'a.txt', 'b.txt', *TINY) == 0
    one, two = (checkpoint.load(f'result/{name}/last.npz') for name in ('small', 'a'))
    assert one.crc == two.crc and one.vocabulary == two.vocabulary
    for name, array in arrays('result/small/last.npz').items():
        numpy.testing.assert_array_equal(arrays('result/a/last.npz')[name], array)
    more = ['--valid', 'valid.txt', 'test.txt', '--test', 'test.txt', 'valid.txt']
    assert run('--corpus', 'a.txt', 'b.txt', *TINY, *more) == 0
    assert run('--resume', '--epoch', 3) == 0
    assert run('--corpus', 'a.txt', 'none.txt', *TINY) == 1
    assert run('--corpus', 'a.txt', '', *TINY) == 2


def test_no_clipping_and_no_learning_rate(small_text, capsys):
    """--gradclip 0 is what a huge norm is; --lr 0 would learn nothing."""
    for norm in (0, 1e30, 1e-3):
        argv = ['--gradclip', norm, '--optimizer', 'sgd', '--out', f'{norm}']
        assert run('--corpus', 'small.txt', *TINY, *argv) == 0
    none, huge, small = (arrays(f'{norm}/last.npz') for norm in (0, 1e30, 1e-3))
    for name in none:
        numpy.testing.assert_array_equal(none[name], huge[name])
    assert not numpy.array_equal(none['model/l3/W'], small['model/l3/W'])
    assert run('--corpus', 'small.txt', *TINY, '--lr', 0) == 2
    assert '--lr 0' in capsys.readouterr().err


@pytest.mark.parametrize('source', ['j.txt', 'library'])
def test_the_tokenizer_is_told_and_can_be_forced(folder, capsys, source):
    (folder / 'library').mkdir()
    for name in ('j.txt', 'library/j.txt'):
        text = 'ホームズは言った。\nわたしは 笑った。\n' * 9
        (folder / name).write_text(text, encoding='utf-8')
    assert run('--corpus', source, *TINY) == 0
    assert 'cut by MeCab' in capsys.readouterr().out
    assert run('--corpus', source, *TINY, '--tokenizer', 'space', '--out', 'space') == 0
    assert 'cut at spaces' in capsys.readouterr().out
    saved = checkpoint.load('space/last.npz')
    assert saved.tokenizer == 'space'
    assert set(saved.vocabulary) == {'ホームズは言った。', '<eos>', 'わたしは', '笑った。'}
    assert run('--resume', 'space', '--epoch', 3) == 0
    assert run('--resume', 'space', '--epoch', 4, '--tokenizer', 'mecab') == 2
    assert run('--corpus', source, *TINY, '--tokenizer', 'space', '--level', 'char') == 2


def test_chinese_is_told_what_helps(folder, capsys):
    (folder / 'c.txt').write_text('福尔摩斯说，你看见什么了？\n' * 30, encoding='utf-8')
    assert run('--corpus', 'c.txt', *TINY) == 0
    assert '--level char' in capsys.readouterr().out
    assert checkpoint.load('result/c/last.npz').tokenizer == 'space'


def test_the_share_of_unknown_words(folder, capsys):
    (folder / 'a.txt').write_text('the cat sat .\n' * 99 + 'odd words here .\n', encoding='utf-8')
    assert run('--corpus', 'a.txt', *TINY, '--min-count', 2, '--val-frac', 0) == 0
    assert '0.6% of the tokens are <unk>' in capsys.readouterr().out  # 3 of 500


def test_bad_bytes(folder, capsys):
    (folder / 'a.txt').write_bytes('ホームズは言った。\n'.encode() * 20 + b'\xff\xe3\x83')
    assert run('--corpus', 'a.txt', *TINY) == 1
    err = capsys.readouterr().err
    assert 'offset 560 ' in err and '--errors replace' in err and err.count('\n') == 1
    assert run('--corpus', 'a.txt', *TINY, '--errors', 'replace') == 0
    assert 'a.txt: bad bytes were read as \ufffd, 2 times' in capsys.readouterr().out
    assert run('--resume', '--epoch', 3) == 0  # it is remembered


# Long epochs


PARTS = 'import sys, train\nfrom support import progress\nprogress.PART = 100\n'
PARTS += 'sys.exit(train.main())'


def in_parts(*argv, **options):
    """train.py in another process (Popen), with parts of 100 words."""
    root = pathlib.Path(train.__file__).parent
    return subprocess.Popen(
        [sys.executable, '-u', '-c', PARTS, *map(str, argv)],
        env={**os.environ, 'PYTHONPATH': str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
        encoding='utf-8',
    )


def log(folder):
    """The log of a run without times."""
    lines = pathlib.Path(folder, 'log.jsonl').read_text(encoding='utf-8').splitlines()
    times = ('tokens/s', 'elapsed_time')
    return [
        {name: value for name, value in json.loads(line).items() if name not in times}
        for line in lines
    ]


@posix
def test_a_long_epoch_is_logged_in_parts_and_resumed_like_an_unbroken_one(small_text):
    argv = ['--corpus', 'small.txt', *TINY, '--epoch', 3, '--sample-every', 2]
    with in_parts(*argv, '--out', 'whole') as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    entries = log('whole')
    # 452 words of 20 windows: an epoch has four parts
    assert [entry['epoch'] for entry in entries] == [n / 4 for n in range(1, 13)]
    assert all('validation/main/loss' in entry for entry in entries)
    assert out.count('it writes') == 6

    with in_parts(*argv, '--out', 'broken') as process:
        for line in process.stdout:
            if line.startswith('1.5 '):
                process.send_signal(signal.SIGTERM)
                break
        process.communicate()
    saved = checkpoint.load('broken/last.npz', training=True)
    assert process.returncode == 143 and 1 <= saved.epoch < 3
    with open(
        'broken/log.jsonl', 'a', encoding='utf-8'
    ) as file:  # of a part that no checkpoint holds
        file.write(json.dumps({'epoch': 2.75, 'iteration': 5000}) + '\n')
    with in_parts('--resume', 'broken', '--sample-every', 2) as process:
        process.communicate()
    assert log('broken') == entries
    for name in ('last.npz', 'best.npz'):
        one, other = (pathlib.Path(out, name).read_bytes() for out in ('whole', 'broken'))
        assert one == other
    best = min(entries, key=lambda entry: entry['validation/main/loss'])
    assert checkpoint.load('whole/best.npz').epoch == best['epoch']


# What stops a reading


@posix
@pytest.mark.parametrize('number, code', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_reading_that_is_stopped(folder, number, code):
    """It says so, and leaves no hidden file, from the moment on when helper processes start.

    Ctrl-C reaches them, too, as on a terminal.
    """
    (folder / 'library').mkdir()
    text = 'ホームズは言った。「ワトスン君、いくつある？」\n' * 20000
    for n in range(3):
        (folder / 'library' / f'{n}.txt').write_text(text, encoding='utf-8')
    with in_parts('--corpus', 'library', *TINY, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while not list(folder.rglob('.*.part')) and time.monotonic() < deadline:
            pass
        assert list(folder.rglob('.*.part'))
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert 'stopped while reading' in err and 'Traceback' not in err
    assert not list(folder.rglob('.*.part')) and not list(folder.rglob('*.ids'))


def test_what_windows_lacks_is_not_needed(folder):
    """With helper processes, a library that is read again, and a run that goes on."""
    (folder / 'library').mkdir()
    for n in range(3):
        text = 'the cat sat on a mat and ate one fish\n' * 20
        (folder / 'library' / f'{n}.txt').write_text(text, encoding='utf-8')
    program = """
import os, signal, sys
for module in (os, signal):
    for name in ('SIGHUP', 'SIGKILL', 'fchmod', 'fork', 'getuid', 'geteuid', 'pthread_sigmask',
                 'sched_getaffinity', 'sync'):
        if hasattr(module, name):
            delattr(module, name)
for name in ('grp', 'pwd', 'resource', 'termios'):
    sys.modules[name] = None
import train
from support import library
library.LARGE = 0
sys.exit(train.main())
"""
    for argv in (['--corpus', 'library', *TINY], ['--resume', '--epoch', '3']):
        done = subprocess.run(
            [sys.executable, '-c', program, *argv],
            env={**os.environ, 'PYTHONPATH': str(pathlib.Path(train.__file__).parent)},
            capture_output=True,
            text=True,
            encoding='utf-8',
        )
        assert done.returncode == 0, done.stderr
    assert len(log('result/library')) == 3
