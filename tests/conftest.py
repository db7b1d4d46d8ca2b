"""What the tests share: small runs, the error of a command, forged checkpoints."""

import contextlib
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from support import modern_chainer  # prepares chainer's import

import chainer
import numpy
import pytest

import train
from support import terminal

ROOT = pathlib.Path(__file__).resolve().parents[1]
CORPORA = ROOT.parent / 'shared' / 'corpora'
TINY = ['--unit', '8', '--batchsize', '4', '--bproplen', '6', '--epoch', '2', '--sample-every', '0']
posix = pytest.mark.skipif(os.name == 'nt', reason='signals, links and devices of POSIX')
FILES_OF_A_RUN = ['.lock', 'best.npz', 'last.npz', 'log.jsonl', 'loss.png']


def pytest_collection_modifyitems(items):
    if not modern_chainer.gpu_count():
        for item in items:
            if item.get_closest_marker('gpu'):
                item.add_marker(pytest.mark.skip(reason='no CUDA GPU here'))


@pytest.fixture(autouse=True)
def in_the_foreground():
    """Ctrl-C as on a terminal, also where the tests themselves run as a background job."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(autouse=True)
def in_no_hurry(monkeypatch):
    """On a busy machine, too, errors stand alone on stderr."""
    monkeypatch.setattr(terminal, 'TELL_AFTER', 600)


@pytest.fixture(params=['@numpy', pytest.param('@cupy:0', marks=pytest.mark.gpu)])
def device(request):
    """The CPU, then, where there is one, a GPU."""
    return chainer.get_device(request.param)


@pytest.fixture
def aozora():
    """Folder with eleven real texts of Aozora Bunko, not part of this project."""
    if not (CORPORA / 'aozora').exists():
        pytest.skip('the real texts are not here')
    return CORPORA / 'aozora'


@pytest.fixture
def corpora():
    """Folder with real texts and MIDI files, not part of this project."""
    if not CORPORA.exists():
        pytest.skip('the real files are not here')
    return CORPORA


# Runs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small_text(folder):
    """A file small.txt of 60 lines, ten different words."""
    words = 'the cat sat on a mat and ate one fish'.split()
    random = numpy.random.RandomState(0)
    lines = [' '.join(random.choice(words, 7)) for _ in range(60)]
    (folder / 'small.txt').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return folder / 'small.txt'


@pytest.fixture
def trained(small_text):
    """The folder of a run of two epochs on small.txt."""
    assert train.main(['--corpus', 'small.txt', *TINY]) == 0
    return small_text.parent / 'result' / 'small'


def run(program, *argv):
    """The exit code of a command: program is its module, argv its arguments, of any type."""
    try:
        return program.main([str(arg) for arg in argv])
    except SystemExit as exit:
        return exit.code


@pytest.fixture
def failed(capsys):
    """failed(code, program, *argv): the error of a command, all that it says on stderr: one line.

    With exit code 2, the usage may stand above it.
    """

    def check(code, program, *argv):
        capsys.readouterr()
        assert run(program, *argv) == code
        lines = capsys.readouterr().err.splitlines()
        if code == 2:
            lines = [line for line in lines if not line.startswith(('usage:', ' '))]
        assert len(lines) == 1 and lines[0].startswith(f'{program.__name__}.py: '), lines
        return lines[0]

    return check


@contextlib.contextmanager
def started(*argv, constants='', before=(), **options):
    """train.py as a process of its own (subprocess.Popen), which is killed in the end.

    constants: a line of Python that changes some; before: what stands in front of the command.
    Its stdout is a pipe, its stderr, too, if `options` say nothing else.
    """
    program = (
        'import sys, train\nfrom support import progress, terminal\nterminal.TELL_AFTER = 600\n'
        f'{constants}\nsys.exit(train.main())'
    )
    options = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, **options}
    with subprocess.Popen(
        [*before, sys.executable, '-u', '-c', program, *map(str, argv)],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        text=True,
        **options,
        encoding='utf-8',
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_epoch(process, epoch):
    """Reads the table that a training prints, up to the row of an epoch."""
    for line in process.stdout:
        if line.split()[:1] == [str(epoch)]:
            return
    raise AssertionError(f'it ended before epoch {epoch}: {process.stderr.read()}')


def said(err):
    """The lines (list) of what a process says on stderr (str), without how long its start takes."""
    return [line for line in err.splitlines() if not line.startswith('starting ... ')]


# Screens


class Terminal(io.StringIO):
    def isatty(self):
        return True


def wait_for(stream, text):
    began = time.process_time()
    while text not in stream.getvalue():
        assert time.process_time() < began + 60


# Files


def entries(folder):
    """The log of a run: a list of a dict for each epoch."""
    text = pathlib.Path(folder, 'log.jsonl').read_text(encoding='utf-8')
    assert not text or text.endswith('\n')
    return [json.loads(line) for line in text.splitlines()]


def untimed(log):
    """The log without what differs between two equal runs."""
    return [
        {name: value for name, value in entry.items() if name not in ('elapsed_time', 'tokens/s')}
        for entry in log
    ]


def arrays(path):
    """All the arrays of a .npz."""
    with numpy.load(path) as npz:
        return dict(npz)


def forge(path, meta=(), changes=()):
    """Changes a checkpoint behind the program's back.

    meta: new fields (dict), or another array instead of it all; changes: new arrays by name (dict),
    functions of the old one, or None, which takes it away.
    """
    found = arrays(path)
    if isinstance(meta, numpy.ndarray):
        found['meta'] = meta
    else:
        fields = {**json.loads(found['meta'].tobytes()), **dict(meta)}
        found['meta'] = numpy.frombuffer(json.dumps(fields).encode(), 'u1')
    for name, value in dict(changes).items():
        assert name in found, name
        found[name] = value(found[name]) if callable(value) else value
    numpy.savez(path, **{name: value for name, value in found.items() if value is not None})
