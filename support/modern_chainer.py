"""Chainer 7.8.1 (2022, its last release) on today's Python, NumPy 2 and CuPy 14.

    import modern_chainer  # before chainer
    import chainer

Copy this one file beside any old Chainer program and put the first line above
its first `import chainer`. It changes no number that Chainer computes: it only
replaces what other packages have removed since. If chainer was imported
before, an ImportError says so.
"""

import importlib.metadata
import importlib.util
import multiprocessing
import os
import re
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
if 'forkserver' in multiprocessing.get_all_start_methods():
    multiprocessing.set_forkserver_preload(['__main__', __name__])

with warnings.catch_warnings():
    # NCCL joins several GPUs; one GPU does without.
    warnings.filterwarnings('ignore', r'\s*nccl library could not be loaded')
    # Several CuPys; use_device says it in a line.
    warnings.filterwarnings('ignore', r'[\s-]*CuPy may not function correctly')
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

    The reason is a line on stderr; the model stays on the CPU then. MemoryError if the memory of
    the GPU is too small for the model, or taken by others.
    """
    count = gpu_count()
    if gpu < 0:
        if count:
            print('a GPU is idle: --gpu 0 uses it', file=sys.stderr)
        return
    names = _installed_cupys()
    if len(names) > 1:
        print(
            f"{' and '.join(names)} are in each other's way: python -m pip uninstall "
            f'{" ".join(names)}, then install one of them',
            file=sys.stderr,
        )
    reason = f'{count} found' if count else _why_none()
    if gpu < count:
        try:
            device = chainer.get_device(f'@cupy:{gpu}')
            device.use()
            device.xp.arange(2).sum()  # does a kernel compile and run?
            model.to_device(device)
            return
        except MemoryError:
            raise
        except Exception as error:  # a missing library shows in many ways
            reason = str(error).strip().split('\n')[0]
    print(f'no GPU {gpu} can be used here, continuing on the CPU: {reason}', file=sys.stderr)


def _installed_cupys():
    """The names (list of str) of the packages that bring CuPy; there should be one at most."""
    names = {found.metadata['Name'] or '' for found in importlib.metadata.distributions()}
    return sorted(filter(re.compile('cupy(-cuda[0-9]+x?|-rocm-[0-9-]+)?').fullmatch, names))


def _why_none():
    """Why no GPU is found, and what to do: a line (str)."""
    if not importlib.util.find_spec('cupy'):
        return 'CuPy is not installed; python -m pip install "cupy-cuda12x[ctk]" adds it'
    try:
        chainer.backends.cuda.check_cuda_available()
        chainer.backends.cuda.cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        lines = str(error).split('#installation).')[-1].split('\n')
        reason = [line.strip() for line in lines if line.strip(' =')][-1]
        if re.search('InsufficientDriver|libcuda|nvcuda', reason):
            return (
                f'{reason}; there is no NVIDIA driver, or it is older than this CuPy: update it, '
                'or install the CuPy of its CUDA version'
            )
        return f'{reason}; python -m pip install "cupy-cuda12x[ctk]" may help'
    return 'none found'
