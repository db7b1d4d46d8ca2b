"""What all programs promise: UTF-8, one line for an error, closed pipes."""

import argparse
import os
import pathlib
import signal
import subprocess
import sys

import mido
import pytest

from support import terminal
import train
from conftest import TINY

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
        assert piped.stdout == b'' and piped.stderr.count(b'\n') == 1
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
    ) as process:
        assert process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
    assert (
        process.returncode == 0
        and 'Traceback' not in err
        and err.count('\n') == (program == 'generate.py')
    )


@pytest.mark.skipif(os.name == 'nt', reason='no such shell')
@pytest.mark.parametrize(
    'program, argv', [(program, argv) for code, program, *argv in COMMANDS if code == 0]
)
def test_streams_that_are_closed_are_no_error(japanese, program, argv):
    done = subprocess.run(
        ['/bin/sh', '-c', 'exec "$@" >&- 2>&-', 'sh', sys.executable, PROGRAMS / program, *argv],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    if program == 'train.py':  # it has learned nevertheless
        assert (japanese / 'result' / NAME / 'last.npz').exists()


@pytest.mark.parametrize('program', ['train.py', 'generate.py'])
def test_ctrl_c_while_importing_is_no_traceback(folder, program):
    """numpy is a module here that waits for Ctrl-C, as a slow import would."""
    (folder / 'numpy.py').write_text(
        'import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass\n'
    )
    done = subprocess.run(
        [sys.executable, PROGRAMS / program],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(folder)},
    )
    assert done.returncode == -signal.SIGINT and done.stderr == '' and done.stdout == ''


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


def test_what_is_no_ordinary_file_is_written_to(tmp_path):
    with terminal.replacing('/dev/null') as file:
        file.write(b'x')
    (tmp_path / 'file').write_bytes(b'old')
    (tmp_path / 'link').symlink_to('file')
    with terminal.replacing(tmp_path / 'link') as file:
        file.write(b'new')
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'file').read_bytes() == b'new'
