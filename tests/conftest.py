import pathlib
import signal

from support import modern_chainer  # noqa: F401  prepares chainer's import

import chainer
import numpy
import pytest

import train

CORPORA = pathlib.Path(__file__).resolve().parents[2] / 'shared' / 'corpora'


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


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


TINY = ['--unit', '8', '--batchsize', '4', '--bproplen', '6', '--epoch', '2', '--sample-every', '0']


@pytest.fixture
def small_text(folder):
    """A file small.txt of 60 lines, ten different words."""
    words = 'the cat sat on a mat and ate one fish'.split()
    random = numpy.random.RandomState(0)
    lines = [' '.join(random.choice(words, 7)) for _ in range(60)]
    (folder / 'small.txt').write_text('\n'.join(lines) + '\n')
    return folder / 'small.txt'


@pytest.fixture
def trained(small_text):
    """The folder of a run of two epochs on small.txt."""
    assert train.main(['--corpus', 'small.txt', *TINY]) == 0
    return small_text.parent / 'result' / 'small'
