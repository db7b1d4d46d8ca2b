"""What is said where no GPU can be used. A CuPy of this test's making stands for the real one."""

import os
import pathlib
import subprocess
import sys

from support import modern_chainer  # noqa: F401  prepares chainer's import

import chainer
import numpy
import pytest

import train
from conftest import ROOT, TINY, posix, run

# What Chainer asks of CuPy when it is imported; a driver that is too old shows at the first call.
ANYTHING = """
class Anything(type):
    def __getattr__(cls, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return cls


class Thing(metaclass=Anything):
    def __new__(cls, *args, **kwargs):
        return cls


def __getattr__(name):
    if name.startswith('__'):
        raise AttributeError(name)
    return Thing


"""
CUPY = {
    'cupy/__init__.py': f"{ANYTHING}__version__ = '14.0.0'\nimport cupy.cuda\n",
    'cupy/_util.py': 'class PerformanceWarning(Warning): pass\n',
    'cupy/cuda/__init__.py': f'{ANYTHING}import cupy.cuda.runtime\n',
    'cupy/cuda/cublas.py': '',
    'cupy/cuda/runtime.py': """
class CUDARuntimeError(RuntimeError):
    pass


def getDeviceCount():
    raise CUDARuntimeError('cudaErrorInsufficientDriver: CUDA driver version is insufficient')
""",
    'cupyx/__init__.py': '',
    'cupyx/scipy/__init__.py': '',
    'cupyx/scipy/linalg.py': '',
    'cupyx/scipy/special.py': '',
}
MISSING = """raise ImportError('''
================================================================
Failed to import CuPy.

Original error:
  ImportError: libcuda.so.1: cannot open shared object file
================================================================
''')
"""


PROGRAM = """
from support import modern_chainer
import chainer
link = chainer.Link()
modern_chainer.use_device(link, 0)
assert link.device.name == '@numpy'
"""


def said_by(site, *options):
    """What is said on stderr (str) when GPU 0 is asked for; site: a folder of packages."""
    done = subprocess.run(
        [sys.executable, *options, '-c', PROGRAM],
        capture_output=True,
        text=True,
        encoding='utf-8',
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(site)},
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def install(site, files):
    """Writes the files, a dict of name to text, below the folder `site`."""
    for name, text in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')


@pytest.mark.parametrize(
    'files, advice',
    [
        (CUPY, ['cudaErrorInsufficientDriver', 'update it', 'CuPy of its CUDA version']),
        ({'cupy/__init__.py': MISSING}, ['libcuda.so.1: cannot open', 'no NVIDIA driver']),
        ({'cupy.py': "raise ImportError('no libcublas')"}, ['no libcublas', 'cupy-cuda12x[ctk]']),
    ],
    ids=['old driver', 'no driver', 'no library'],
)
def test_the_reason_and_what_helps_in_one_line(tmp_path, files, advice):
    install(tmp_path, files)
    (line,) = said_by(tmp_path).splitlines()
    assert line.startswith('no GPU 0 can be used here, continuing on the CPU: ')
    assert all(words in line for words in advice), line


def test_several_cupys_are_named(tmp_path):
    install(tmp_path, CUPY)
    for name in ('cupy-cuda11x', 'cupy-cuda13x'):
        metadata = f'Metadata-Version: 2.1\nName: {name}\nVersion: 14.0.0\n'
        install(tmp_path, {f'{name}-14.0.0.dist-info/METADATA': metadata})
    line, other = said_by(tmp_path).splitlines()
    assert 'python -m pip uninstall cupy-cuda11x ' in line and 'cupy-cuda13x' in line
    assert other.startswith('no GPU 0')


@posix
def test_no_cupy(tmp_path):
    """-S hides all packages; all but CuPy are linked."""
    for path in pathlib.Path(numpy.__file__).parents[1].iterdir():
        if not path.name.startswith('cupy'):
            (tmp_path / path.name).symlink_to(path)
    (line,) = said_by(tmp_path, '-S').splitlines()
    assert 'CuPy is not installed; python -m pip install "cupy-cuda12x[ctk]" adds it' in line


def test_too_little_memory(small_text, failed):
    """131 TB: more than an address can name, on any machine."""
    line = failed(1, train, '--corpus', 'small.txt', *TINY, '--unit', 3_000_000)
    assert 'not enough memory' in line and '--batchsize' in line and '--unit' in line


@pytest.mark.gpu
@pytest.mark.parametrize('unit', [512, 64], ids=['the network', 'a window'])
def test_a_gpu_that_is_too_small(small_text, failed, unit):
    """It has room for a megabyte: not for the larger network, and not for training the smaller."""
    pool = chainer.backends.cuda.memory_pool
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + (1 << 20))
    argv = ['--corpus', 'small.txt', *TINY, '--unit', unit, '--batchsize', 64, '--gpu', 0]
    try:
        line = failed(1, train, *argv)
    finally:
        pool.set_limit(size=0)
    assert 'not enough memory' in line and '--batchsize' in line and '--unit' in line


@pytest.mark.gpu
def test_a_gpu_that_fails_while_it_trains(small_text, failed, monkeypatch):
    """As after the sleep of a laptop: from some moment on, all that CuPy says is an error."""
    import cupy

    def fail(*args, **kwargs):
        raise cupy.cuda.runtime.CUDARuntimeError(100)  # no device

    assert run(train, '--corpus', 'small.txt', *TINY, '--gpu', 0) == 0
    monkeypatch.setattr(cupy.random, 'random_sample', fail)
    line = failed(1, train, '--resume', '--epoch', 3, '--gpu', 0)
    assert 'the GPU failed: cudaError' in line and '--resume result' in line
