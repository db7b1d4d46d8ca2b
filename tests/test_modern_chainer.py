"""The ground: an unchanged Chainer 7.8.1 imports and computes on today's Python."""

import os
import pathlib
import subprocess
import sys

import pytest

SUPPORT = pathlib.Path(__file__).resolve().parents[1] / 'support'


def python(code, *options):
    return subprocess.run(
        [sys.executable, *options, '-c', code], cwd=SUPPORT, text=True, capture_output=True
    )


@pytest.mark.parametrize(
    'options',
    [
        pytest.param(['-W', 'error'], id='warnings are errors'),
        # nothing compiled before: the compiler's warnings count as well
        pytest.param(['-W', 'error', '-X', f'pycache_prefix={os.devnull}'], id='and no .pyc'),
    ],
)
def test_import_is_silent(options):
    done = python(
        'import modern_chainer, chainer, chainer.training.extensions;print(chainer.__version__)',
        *options,
    )
    assert (done.stdout, done.stderr, done.returncode) == ('7.8.1\n', '', 0)


def test_import_after_chainer_says_so():
    done = python(
        'import sys, types; sys.modules["chainer"] = types.ModuleType("chainer");'
        'import modern_chainer'
    )
    assert done.returncode == 1
    assert 'ImportError: import modern_chainer before chainer' in done.stderr


def test_what_numpy_2_broke_computes_again():
    done = python(
        'import modern_chainer, numpy, chainer.functions as F, chainer\n'
        'x = chainer.Variable(numpy.arange(6, dtype="f"))\n'
        'y = F.as_strided(x, (2, 3), (1, 1), 1)\n'
        'F.sum(y).backward()\n'
        'print(y.array.tolist(), x.grad.tolist())',
        '-W',
        'error',
    )
    assert done.stderr == ''
    assert done.stdout == '[[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]] [0.0, 1.0, 2.0, 2.0, 1.0, 0.0]\n'
