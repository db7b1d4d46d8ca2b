"""What all programs promise: UTF-8, one line for an error, closed pipes."""

import argparse
import io
import os
import pathlib
import signal
import subprocess
import sys

import mido
import pytest

import generate
from support import terminal
import train
from conftest import TINY, Terminal, posix, said, wait_for

PROGRAMS = pathlib.Path(train.__file__).parent
NAME = 'ホームズ緋'


@pytest.fixture
def japanese(folder):
    """A text, a run on it and a piece of music, all with Japanese names."""
    (folder / f'{NAME}.txt').write_text(f'{NAME}は言った。\n' * 40, encoding='utf-8')
    track = mido.MidiTrack(
        [
            mido.MetaMessage('track_name', name=NAME),
            mido.Message('note_on', note=60),
            mido.Message('note_off', note=60, time=480),
        ]
        + 3000 * [mido.MetaMessage('text', text=NAME)]
    )
    mido.MidiFile(tracks=[track], charset='utf-8').save(folder / f'{NAME}.mid')
    assert train.main(['--corpus', f'{NAME}.txt', *TINY, '--out', 'result/run']) == 0
    return folder


COMMANDS = [
    (0, 'train.py', '--corpus', f'{NAME}.txt', *TINY, '--sample-every', '1'),
    (1, 'train.py', '--corpus', f'{NAME}.tex'),
    (0, 'train.py', '--midi', f'{NAME}.mid', *TINY),
    (2, 'train.py', '--corpus', f'{NAME}.txt', '--unit', NAME),
    (0, 'generate.py', '--start', f'{NAME}は'),
    (2, 'generate.py', '--start', f'{NAME}が'),
    (0, 'read_midi.py', f'{NAME}.mid'),
    (1, 'read_midi.py', f'{NAME}.txt'),
    (1, 'write_midi.py', f'{NAME}.txt', 'out.mid'),
]


@pytest.mark.parametrize(
    'code, program, argv', [(code, program, argv) for code, program, *argv in COMMANDS]
)
def test_output_is_utf_8_whatever_the_surroundings_say(japanese, code, program, argv):
    piped = subprocess.run(
        [sys.executable, PROGRAMS / program, *argv],
        capture_output=True,
        env={**os.environ, 'PYTHONIOENCODING': 'ascii'},
    )
    assert piped.returncode == code
    assert 'ホームズ' in (piped.stdout + piped.stderr).decode('utf-8')
    if code == 1:
        assert piped.stdout == b'' and len(said(piped.stderr.decode('utf-8'))) == 1
    with open('output', 'wb') as file:
        subprocess.run(
            [sys.executable, PROGRAMS / program, *argv],
            stdout=file,
            stderr=file,
            env={**os.environ, 'PYTHONIOENCODING': 'cp932'},
        )
    assert 'ホームズ' in (japanese / 'output').read_text(encoding='utf-8')


@pytest.mark.parametrize(
    'program, argv',
    [(program, argv) for code, program, *argv in COMMANDS if code == 0 and program != 'train.py'],
)  # it has a test of its own
def test_a_reader_that_goes_away_is_no_error(japanese, program, argv):
    if program == 'generate.py':
        argv = [*argv, '--length', '20000', '--seed', '1']
    with subprocess.Popen(
        [sys.executable, PROGRAMS / program, *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding='utf-8',
    ) as process:
        assert process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
    assert (
        process.returncode == 0
        and 'Traceback' not in err
        and len(said(err)) == (program == 'generate.py')
    )


@posix
@pytest.mark.parametrize(
    'program, argv', [(program, argv) for code, program, *argv in COMMANDS if code == 0]
)
def test_streams_that_are_closed_are_no_error(japanese, program, argv):
    done = subprocess.run(
        ['/bin/sh', '-c', 'exec "$@" >&- 2>&-', 'sh', sys.executable, PROGRAMS / program, *argv],
        capture_output=True,
        text=True,
        encoding='utf-8',
    )
    assert done.returncode == 0
    if program == 'train.py':  # it has learned nevertheless
        assert (japanese / 'result' / NAME / 'last.npz').exists()


@posix
@pytest.mark.parametrize('program', ['train.py', 'generate.py'])
def test_ctrl_c_while_importing_is_no_traceback(folder, program):
    """numpy is a module here that waits for Ctrl-C, as a slow import would."""
    (folder / 'numpy.py').write_text(
        'import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass\n',
        encoding='utf-8',
    )
    done = subprocess.run(
        [sys.executable, PROGRAMS / program],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(folder)},
        encoding='utf-8',
    )
    assert done.returncode == -signal.SIGINT and done.stderr == '' and done.stdout == ''


@pytest.mark.parametrize('program', ['train.py', 'generate.py'])
def test_nothing_is_installed(folder, program):
    """-S hides what is."""
    done = subprocess.run(
        [sys.executable, '-S', PROGRAMS / program], capture_output=True, text=True, encoding='utf-8'
    )
    assert done.returncode == 1 and done.stderr.count('\n') == 1
    assert done.stderr.startswith(f'{program}: ') and 'docs/installation.md' in done.stderr


def test_stderr_that_goes_away_is_no_error(japanese):
    with subprocess.Popen(
        [sys.executable, PROGRAMS / 'generate.py', '--length', '5', '--out', 'story.txt'],
        stderr=subprocess.PIPE,
    ) as process:
        process.stderr.close()
    assert process.returncode == 0 and (japanese / 'story.txt').exists()


@pytest.mark.parametrize(
    'text, message',
    [
        ('0', '0 is not 1 or more'),
        ('-1', '-1 is not 1 or more'),
        ('99999999999999999999', '99999999999999999999 is not from 1 to 2147483647'),
        ('1' * 400, 'is not from 1 to 2147483647'),
        ('x', 'invalid literal'),
    ],
)
def test_numbers_out_of_bounds(text, message):
    with pytest.raises((argparse.ArgumentTypeError, ValueError), match=message):
        terminal.number(int, 1)(text)
    assert terminal.number(int, 1)('2000000000') == 2000000000


@pytest.mark.parametrize(
    'program, argv, offer',
    [
        (train, ['--corpus', 'holmes.txt', '--epohc', '5'], 'did you mean --epoch?'),
        (train, ['--corpus', 'holmes.txt', '--batch_size=5'], 'did you mean --batchsize?'),
        (train, ['-corpus', 'holmes.txt'], 'did you mean --corpus?'),
        (train, ['--zzz'], '--zzz; --help lists the options'),
        (train, ['holmes.txt'], 'holmes.txt; which option is it for? --help lists them'),
        (generate, ['ホームズ'], 'ホームズ; which option is it for? --help lists them'),
        (generate, ['--temprature', '1'], 'did you mean --temperature?'),
        (train, ['-b', '0', '--corpus', 'holmes.txt'], '0 is not 1 or more'),
    ],
)
def test_options_like_a_mistyped_one_are_offered(program, argv, offer, failed):
    assert failed(2, program, *argv).endswith(offer)


@pytest.mark.parametrize(
    'program, argv, code',
    [
        (generate, [], 1),
        (generate, ['--midi', 'out.mid'], 1),
        (generate, ['--near', 'ホームズ'], 1),
    ],
)
def test_a_fresh_clone_has_no_model(folder, program, argv, code, failed):
    assert 'train one: python train.py --' in failed(code, program, *argv)


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no device that is always full')
@pytest.mark.parametrize('argv', [['--seed', '1'], ['--near', 'ホームズ'], ['--out', '/dev/full']])
def test_a_full_disk(japanese, argv):
    with open('/dev/null' if '--out' in argv else '/dev/full', 'w', encoding='utf-8') as full:
        done = subprocess.run(
            [sys.executable, PROGRAMS / 'generate.py', *argv],
            env={name: value for name, value in os.environ.items() if name != 'PYTHONUNBUFFERED'},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            encoding='utf-8',
        )
    assert done.returncode == 1
    *_, line = done.stderr.splitlines()
    assert line.startswith('generate.py: ') and 'No space left on device' in line
    assert 'Traceback' not in done.stderr


def test_an_error_is_one_line_whatever_is_in_it(capsys):
    @terminal.reporting
    def main(argv=None):
        raise terminal.UserError('a\nb\x1b[2Jc\r\u2028ホームズ')

    assert main() == 1
    err = capsys.readouterr().err
    assert (
        err.count('\n') == 1
        and len(err.splitlines()) == 1
        and '\x1b' not in err
        and 'ホームズ' in err
    )


@posix
def test_what_is_no_ordinary_file_is_written_to(tmp_path):
    with terminal.replacing('/dev/null') as file:
        file.write(b'x')
    (tmp_path / 'file').write_bytes(b'old')
    (tmp_path / 'link').symlink_to('file')
    with terminal.replacing(tmp_path / 'link') as file:
        file.write(b'new')
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'file').read_bytes() == b'new'


def test_a_file_that_another_program_reads_is_replaced_later(tmp_path, monkeypatch):
    """As on Windows, where a file cannot be replaced while it is open."""
    replace, refused = os.replace, []

    def refuse_once(*paths):
        if not refused:
            refused.append(paths)
            raise PermissionError
        replace(*paths)

    monkeypatch.setattr(os, 'replace', refuse_once)
    with terminal.replacing(tmp_path / 'last.npz') as file:
        file.write(b'new')
    assert refused and (tmp_path / 'last.npz').read_bytes() == b'new'


# What takes long


def test_a_screen_shows_what_takes_long_until_it_is_over(monkeypatch):
    monkeypatch.setattr(sys, 'stderr', Terminal())
    monkeypatch.setenv('COLUMNS', '80')
    with terminal.doing('reading'):
        wait_for(sys.stderr, '\rreading ... 0:00:0')
    drawn = sys.stderr.getvalue()
    assert '\n' not in drawn and max(map(len, drawn.split('\r'))) < 80
    assert drawn.split('\r')[-2].isspace() and drawn.endswith('\r')


def test_a_pipe_gets_a_line(monkeypatch):
    monkeypatch.setattr(sys, 'stderr', io.StringIO())
    monkeypatch.setattr(terminal, 'TELL_AFTER', 1)
    monkeypatch.setattr(terminal, '_told', set())  # what other tests have told
    with terminal.doing('cutting', 200) as advance:
        advance(50)
        wait_for(sys.stderr, 'cutting ... 25%, 0:00:0')
        with terminal.doing('reading'):
            wait_for(sys.stderr, 'reading ... 0:00:0')
    assert len(sys.stderr.getvalue().splitlines()) == 2


def test_what_is_over_at_once_is_not_told(capsys):
    with terminal.doing('reading'):
        pass
    assert capsys.readouterr().err == ''


@posix
@pytest.mark.parametrize('program', ['train.py', 'generate.py'])
def test_a_slow_start_is_shown(folder, program):
    """numpy is a module here that never ends."""
    import pty

    (folder / 'numpy.py').write_text('while True: pass\n', encoding='utf-8')
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, PROGRAMS / program],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, 'PYTHONPATH': str(folder)},
    ) as process:
        os.close(theirs)
        assert b'starting ... 0:00:0' in os.read(ours, 1000)
        process.kill()
    os.close(ours)
