"""Chainer 7.8.1 (2022, its last release) on today's Python, NumPy 2 and CuPy 14.

    import modern_chainer  # before chainer
    import chainer

Copy this one file beside any old Chainer program and put the first line above
its first `import chainer`. It changes no number that Chainer computes: it only
replaces what other packages have removed since. If chainer was imported
before, an ImportError says so.
"""

import multiprocessing
import os
import sys
import types
import warnings

import numpy

if 'chainer' in sys.modules:
    raise ImportError(
        "import modern_chainer before chainer: it prepares what chainer's own import needs"
    )

# Chainer checks its surroundings with numpy.distutils and pkg_resources, which
# Python 3.12 and setuptools 82 no longer have. The check only prints warnings.
_check = types.ModuleType('chainer._environment_check')
_check.check = lambda: None
sys.modules['chainer._environment_check'] = _check

# NumPy 2 dropped these two; chainer.functions.resize_images and as_strided still read them.
numpy.float = float
if not hasattr(numpy, 'sctypes'):
    numpy.sctypes = {
        'int': [numpy.int8, numpy.int16, numpy.int32, numpy.int64],
        'uint': [numpy.uint8, numpy.uint16, numpy.uint32, numpy.uint64],
        'float': [numpy.float16, numpy.float32, numpy.float64],
        'complex': [numpy.complex64, numpy.complex128],
        'others': [bool, object, bytes, str, numpy.void],
    }

# CuPy 14 has no cuDNN interface any more; without this Chainer looks for it.
os.environ.setdefault('CHAINER_CUDNN', '0')

# Since Python 3.14 the processes of a MultiprocessIterator do not begin as copies of this one.
multiprocessing.set_forkserver_preload(['__main__', __name__])

with warnings.catch_warnings():
    # NCCL joins several GPUs; one GPU does without.
    warnings.filterwarnings('ignore', r'\s*nccl library could not be loaded')
    # Chainer's sources predate Python's warnings about '\_' in docstrings.
    warnings.filterwarnings('ignore', r'.*invalid escape sequence')
    import chainer


def gpu_count():
    """Number of CUDA GPUs that can be used (int, 0 without CuPy, driver or GPU).

    `chainer.backends.cuda.available` alone is True wherever the CUDA libraries
    lie, even on a machine without a driver.
    """
    if not chainer.backends.cuda.available:
        return 0
    try:
        return chainer.backends.cuda.cupy.cuda.runtime.getDeviceCount()
    except chainer.backends.cuda.cupy.cuda.runtime.CUDARuntimeError:
        return 0


def use_device(model, gpu):
    """Moves a chainer.Link to GPU number `gpu` (int; negative: none), or says why it cannot.

    The reason is a line on stderr; the model stays on the CPU then.
    """
    count = gpu_count()
    if gpu < 0:
        if count:
            print('a GPU is idle: --gpu 0 uses it', file=sys.stderr)
        return
    reason = f'{count} found' if count else 'none found'
    if gpu < count:
        try:
            device = chainer.get_device(f'@cupy:{gpu}')
            device.use()
            device.xp.arange(2).sum()  # does a kernel compile and run?
            model.to_device(device)
            return
        except Exception as error:  # a missing library shows in many ways
            reason = str(error).strip().split('\n')[0]
    print(f'no GPU {gpu} can be used here ({reason}): going on on the CPU', file=sys.stderr)
