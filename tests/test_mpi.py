"""Training in several processes (--mpi) against the same in one; skipped without MPI."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy
import pytest

from support import checkpoint
import train
from conftest import ROOT, entries, untimed, posix, said

TINY = ['--corpus', 'small.txt', '--unit', '8', '--batchsize', '4', '--dropout', '0']
TINY += ['--sample-every', '0']
# an epoch is one window
ONE_UPDATE = ['--bproplen', '113', '--epoch', '1', '--optimizer', 'sgd', '--lr', '1']
UPDATES_100 = ['--bproplen', '12', '--epoch', '10']  # of Adam


def start(n, *args, program=ROOT / 'train.py'):
    """Starts n processes, each with one thread."""
    pytest.importorskip('mpi4py')
    mpiexec = shutil.which(
        'mpiexec', path=f'{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    )
    if not mpiexec:
        pytest.skip('no mpiexec here')
    environment = {
        **os.environ,
        'OPENBLAS_NUM_THREADS': '1',
        'PYTHONUNBUFFERED': '1',
        'PYTHONPATH': str(ROOT),
    }
    return subprocess.Popen(
        [mpiexec, '-n', str(n), sys.executable, str(program), '--mpi', *map(str, args)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding='utf-8',
    )


def processes(n, *args, **kwargs):
    """Runs n processes to the end: (exit code, stdout, stderr)."""
    with start(n, *args, **kwargs) as running:
        out, err = running.communicate(timeout=120)
    return running.returncode, out, err


def ours(err):
    """The lines of stderr that are not those of mpiexec itself."""
    return [
        line
        for line in err.splitlines()
        if line.startswith(('train.py', 'usage', 'finishing', 'stopped'))
    ]


def assert_same(out, other, rtol):
    """Losses, and weights relative to the largest of their array: near 0 all digits are rounded."""
    weights, others = (
        dict(checkpoint.load(f'{o}/last.npz').model.namedparams()) for o in (out, other)
    )
    log, other_log = untimed(entries(out)), untimed(entries(other))
    assert len(log) == len(other_log) > 0
    for entry, other_entry in zip(log, other_log):
        assert entry.keys() == other_entry.keys()
        for name in entry:
            assert other_entry[name] == pytest.approx(entry[name], rel=rtol)
    for name, param in weights.items():
        numpy.testing.assert_allclose(
            others[name].array,
            param.array,
            rtol=0,
            atol=rtol * abs(param.array).max(),
            err_msg=name,
        )


@pytest.mark.parametrize('options, rtol', [(ONE_UPDATE, 1e-6), (UPDATES_100, 1e-3)])
def test_the_numbers_are_those_of_one_process(small_text, options, rtol):
    assert train.main([*TINY, *options, '--out', 'one']) == 0
    for n in (2, 4) if rtol < 1e-3 else (2,):
        code, out, err = processes(n, *TINY, *options, '--out', f'out{n}')
        assert code == 0, err
        # the first one speaks for all
        assert out.count(f'of {n} processes') == out.count('the run is in') == 1 and not ours(err)
        assert_same('one', f'out{n}', rtol)


def test_resumed_by_other_numbers_of_processes(small_text):
    """Of six streams; of three processes that validate in two streams, one has none."""
    options = [*TINY, '--batchsize', '6', '--bproplen', '12', '--lr', '0.01']
    assert train.main([*options, '--epoch', '4', '--out', 'one']) == 0
    for n, epochs in ((2, 1), (3, 3)):
        argv = ['--resume', 'out'] if epochs > 1 else [*options, '--out', 'out']
        code, _, err = processes(n, *argv, '--epoch', epochs)
        assert code == 0, err
    assert train.main(['--resume', 'out', '--epoch', '4']) == 0
    assert_same('one', 'out', 1e-3)


def test_each_process_has_its_own_dropout(small_text):
    """Two streams of the same words differ only by dropout, if it is not the same for both."""
    words = ' '.join(small_text.read_text(encoding='utf-8').split()[:40])
    small_text.write_text(f'{words} {words} end', encoding='utf-8')
    options = [*TINY, '--batchsize', '2', '--bproplen', '40', '--val-frac', '0', '--epoch', '1']

    def rows_are_equal(out):
        first, second = checkpoint.load(f'{out}/last.npz', training=True).training['state/h1']
        return numpy.allclose(first, second)

    for out, dropout in (('without', 0), ('with', 0.5)):
        code, _, err = processes(2, *options, '--dropout', dropout, '--out', out)
        assert code == 0 and rows_are_equal(out) == (dropout == 0), err
    code, _, err = processes(2, '--resume', 'with', '--epoch', 2)
    assert code == 0 and not rows_are_equal('with'), err


@posix
@pytest.mark.parametrize('number, code', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_and_saves(small_text, number, code):
    with start(2, *TINY, '--bproplen', '12', '--epoch', '100000') as running:
        for line in running.stdout:
            if line.split()[0] == '2':  # epochs
                break
        running.send_signal(number)
        _, err = running.communicate(timeout=120)
    assert running.returncode == code
    assert sum('--resume goes on' in line for line in ours(err)) == 1
    epoch = checkpoint.load('result/small/last.npz').epoch
    assert epoch >= 2 and train.main(['--resume', '--epoch', str(epoch + 1)]) == 0


@pytest.mark.parametrize(
    'options, code, said',
    [
        (['--corpus', 'none.txt'], 1, 'none.txt: no such file'),
        ([*TINY, '--unit', '0'], 2, '0 is not 1 or more'),
        ([*TINY, '--batchsize', '3'], 2, '--batchsize 3 is not a multiple of 2 processes'),
        ([*TINY, '--bproplen', '1000'], 1, 'too short for 2 processes'),
    ],
)
def test_what_all_processes_find_wrong_is_said_once(small_text, options, code, said):
    found, _, err = processes(2, *options)
    assert (
        found == code
        and sum(said in line for line in err.splitlines()) == 1
        and 'Traceback' not in err
    )


@pytest.mark.skipif(not hasattr(signal, 'SIGXFSZ'), reason='no file size limit here')
def test_an_error_of_one_process_ends_all(small_text):
    """The first one cannot write what it has learned; the other would wait for it forever."""
    program = pathlib.Path('failing.py')
    program.write_text(
        """
import resource, sys, mpi4py.MPI, train
if not mpi4py.MPI.COMM_WORLD.rank:
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
sys.exit(train.main())
""",
        encoding='utf-8',
    )
    code, _, err = processes(2, *TINY, '--bproplen', '12', program=program)
    line = 'process 0 of 2: result/small/best.npz: File too large'
    assert code and line in err and 'Traceback' not in err


def test_a_run_that_begins_with_a_model(trained):
    """Two processes draw the same rows for new words, and learn what one learns."""
    pathlib.Path('new.txt').write_text('the dog and the cat sat on a sofa\n' * 60, encoding='utf-8')
    argv = ['--init-from', trained, '--corpus', 'new.txt', '--epoch', 2, '--batchsize', 4]
    argv += ['--dropout', 0, '--sample-every', 0]
    assert train.main([*map(str, argv), '--out', 'one']) == 0
    code, out, err = processes(2, *argv, '--out', 'two')
    assert code == 0 and out.count('2 of 9 words are new to it') == 1, err
    assert_same('one', 'two', 1e-5)
    code, _, err = processes(2, *argv, '--unit', '9')
    assert code == 2 and '--unit is 8' in ours(err)[-1]


def test_processes_that_read_different_texts(small_text):
    """As on machines with copies of their own; they would wait for ever, or learn nonsense."""
    program = pathlib.Path('copies.py')
    program.write_text(
        """
import sys, mpi4py.MPI, train
if mpi4py.MPI.COMM_WORLD.rank:
    sys.argv[sys.argv.index('small.txt')] = 'other.txt'
sys.exit(train.main())
""",
        encoding='utf-8',
    )
    pathlib.Path('other.txt').write_text(
        small_text.read_text(encoding='utf-8') + 'a fish\n', encoding='utf-8'
    )
    code, _, err = processes(2, *TINY, program=program)
    assert (
        code == 1 and err.count('process 1 has read another text') == 1 and 'Traceback' not in err
    )


def test_a_loss_that_is_no_number_is_said_once(small_text):
    code, _, err = processes(2, *TINY, '--optimizer', 'sgd', '--lr', '1e30', '--gradclip', '1e30')
    assert code == 1 and len(ours(err)) == 1 and 'step' in ours(err)[0]


def test_without_mpi4py(small_text):
    """A module of that name stands in its way, as a broken installation would."""
    pathlib.Path('mpi4py.py').write_text('raise ImportError("no MPI here")', encoding='utf-8')
    done = subprocess.run(
        [sys.executable, train.__file__, *TINY, '--mpi'],
        env={**os.environ, 'PYTHONPATH': os.getcwd()},
        capture_output=True,
        text=True,
        encoding='utf-8',
    )
    assert done.returncode == 1 and len(said(done.stderr)) == 1
    assert 'requirements/mpi.txt' in done.stderr
