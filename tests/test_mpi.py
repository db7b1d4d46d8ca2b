"""Training in several processes (--mpi) against the same in one. Skipped without mpi4py and mpiexec."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy
import pytest

from support import checkpoint
from support import parallel
import train

ROOT = pathlib.Path(train.__file__).parent
TINY = [
    '--corpus',
    'small.txt',
    '--unit',
    '8',
    '--batchsize',
    '4',
    '--dropout',
    '0',
    '--sample-every',
    '0',
]
ONE_UPDATE = [
    '--bproplen',
    '113',
    '--epoch',
    '1',
    '--optimizer',
    'sgd',
    '--lr',
    '1',
]  # an epoch is one window
UPDATES_200 = ['--bproplen', '12', '--epoch', '20']  # of Adam


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


def weights_and_log(out):
    model, meta = checkpoint.load(f'{out}/last.npz')
    return dict(model.namedparams()), meta['history']


def assert_same(out, other, rtol):
    """Losses, and weights relative to the largest of their array: near 0 a rounded sum has no right digit."""
    (weights, log), (others, other_log) = weights_and_log(out), weights_and_log(other)
    assert len(log) == len(other_log)
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


@pytest.mark.parametrize('options, rtol', [(ONE_UPDATE, 1e-6), (UPDATES_200, 1e-3)])
def test_the_numbers_are_those_of_one_process(small_text, options, rtol):
    assert train.main([*TINY, *options, '--out', 'one']) == 0
    for n in (2, 4) if rtol < 1e-3 else (4,):
        code, out, err = processes(n, *TINY, *options, '--out', f'out{n}')
        assert code == 0, err
        assert out.count(f'of {n} processes') == 1 and not ours(err)  # the first one speaks for all
        assert_same('one', f'out{n}', rtol)


def test_resumed_by_other_numbers_of_processes(small_text):
    """Three processes have 1, 1 and 2 of the four streams; of the one that validates, two have none."""
    options = [*TINY, '--bproplen', '12', '--lr', '0.01']
    assert train.main([*options, '--epoch', '4', '--out', 'one']) == 0
    for n, epochs in ((2, 1), (3, 3)):
        code, _, err = processes(
            n,
            *(['--resume', 'out'] if epochs > 1 else [*options, '--out', 'out']),
            '--epoch',
            epochs,
        )
        assert code == 0, err
    assert train.main(['--resume', 'out', '--epoch', '4']) == 0
    assert_same('one', 'out', 1e-3)


def test_each_process_has_its_own_dropout(small_text, monkeypatch):
    program = pathlib.Path('masks.py')
    program.write_text("""
import sys, numpy, mpi4py.MPI, train
rank = mpi4py.MPI.COMM_WORLD.rank
dropout_mask = train.fused.dropout_mask
def spy(*args):
    mask = dropout_mask(*args)
    numpy.save(f'mask-{len(sys.argv)}-{rank}', mask[:, :, :1])
    return mask
train.fused.dropout_mask = spy
sys.exit(train.main())
""")
    assert processes(2, *TINY, *ONE_UPDATE, '--dropout', '0.5', program=program)[0] == 0
    assert processes(2, '--resume', '--epoch', '2', program=program)[0] == 0
    masks = [numpy.load(path).tobytes() for path in pathlib.Path().glob('mask-*.npy')]
    assert len(masks) == len(set(masks)) == 4


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
    epoch = checkpoint.load('result/small/last.npz')[1]['epoch']
    assert epoch >= 2 and train.main(['--resume', '--epoch', str(epoch + 1)]) == 0


@pytest.mark.parametrize(
    'options, code, said',
    [
        (['--corpus', 'none.txt'], 1, 'none.txt: no such file'),
        ([*TINY, '--unit', '0'], 2, '0 is not 1 or more'),
        ([*TINY, '--batchsize', '1'], 1, '1 streams are too few for 2 processes'),
    ],
)
def test_what_all_processes_find_wrong_is_said_once(small_text, options, code, said):
    found, _, err = processes(2, *options)
    assert (
        found == code
        and sum(said in line for line in err.splitlines()) == 1
        and 'Traceback' not in err
    )


def test_an_error_of_one_process_ends_all(small_text):
    program = pathlib.Path('failing.py')
    program.write_text("""
import sys, mpi4py.MPI, train
watch = train.Updater.watch
def failing(self, loss, words):
    if self.comm.rank == 1 and self.iteration == 5:
        raise MemoryError('a byte')
    watch(self, loss, words)
train.Updater.watch = failing
sys.exit(train.main())
""")
    code, _, err = processes(2, *TINY, '--bproplen', '12', program=program)
    assert code and 'process 1 of 2: not enough memory: a byte' in err and 'Traceback' not in err


def test_processes_that_read_different_texts(small_text):
    """As on machines with copies of their own; they would wait for each other forever, or learn nonsense."""
    program = pathlib.Path('copies.py')
    program.write_text("""
import sys, mpi4py.MPI, train
if mpi4py.MPI.COMM_WORLD.rank:
    sys.argv[sys.argv.index('small.txt')] = 'other.txt'
sys.exit(train.main())
""")
    pathlib.Path('other.txt').write_text(small_text.read_text() + 'a fish\n')
    code, _, err = processes(2, *TINY, program=program)
    assert (
        code == 1 and err.count('process 1 has read another text') == 1 and 'Traceback' not in err
    )


def test_a_loss_that_is_no_number_is_said_once(small_text):
    code, _, err = processes(2, *TINY, '--optimizer', 'sgd', '--lr', '1e30', '--gradclip', '1e30')
    assert code == 1 and len(ours(err)) == 1 and 'step' in ours(err)[0]


def test_without_mpi4py(small_text, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'mpi4py', None)
    assert train.main([*TINY, '--mpi']) == 1
    assert 'requirements/mpi.txt' in capsys.readouterr().err


@pytest.mark.parametrize('count', [0, 1, 4, 20])
@pytest.mark.parametrize('size', [1, 3, 8])
def test_everything_is_dealt_out_once(count, size):
    class Process(parallel.Alone):
        def __init__(self, rank):
            self.rank, self.size = rank, size

    parts = [parallel.share(Process(rank), count) for rank in range(size)]
    assert [i for part in parts for i in range(count)[part]] == list(range(count))
    assert max(part.stop - part.start for part in parts) <= -(-count // size)
