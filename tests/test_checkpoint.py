"""checkpoint.py: one file, no pickle, whole or not at all."""
import errno
import io
import json
import pathlib
import pickle
import zipfile

import numpy
import pytest

import checkpoint
import command
from checkpoint import CheckpointError
from rnn import RNN

META = {'kind': 'text', 'vocabulary': ['a', 'b', '<eos>'], 'cut': 'space', 'options': {'lr': 0.1},
        'epoch': 3, 'history': [], 'text_sum': 1}


@pytest.fixture
def saved(tmp_path):
    model = RNN(3, 4)
    checkpoint.save(tmp_path / 'm.npz', model, META)
    return tmp_path / 'm.npz', model


def test_what_was_saved_is_loaded(saved, device):
    path, model = saved
    model.to_device(device)
    checkpoint.save(path, model, META)
    loaded, meta = checkpoint.load(path)
    assert meta == {'format': 1, 'n_units': 4, **META}
    model.to_device('@numpy')
    for (name, expected), (_, param) in zip(model.namedparams(), loaded.namedparams()):
        assert isinstance(param.array, numpy.ndarray)
        numpy.testing.assert_array_equal(param.array, expected.array, err_msg=name)


def test_the_file_is_plain_arrays_and_json(saved, trained):
    for path in (saved[0], trained / 'last.npz', trained / 'best.npz'):
        with numpy.load(path, allow_pickle=False) as npz:
            arrays = {name: npz[name] for name in npz}  # would fail on a pickled object
        assert json.loads(arrays['meta'].tobytes())['format'] == 1
        assert arrays['model/l1_x/W'].dtype == 'f'


def rewritten(path, **changes):
    """The file with arrays replaced (None: left out)."""
    with numpy.load(path) as npz:
        arrays = dict(npz)
    arrays.update({name.replace('__', '/'): value for name, value in changes.items()})
    numpy.savez(path, **{name: value for name, value in arrays.items() if value is not None})


def meta(**changes):
    fields = {'format': 1, 'n_units': 4, **META, **changes}
    return numpy.frombuffer(json.dumps(fields).encode(), 'u1')


@pytest.mark.parametrize('change, message', [
    ({'model__l2_h__b': None}, 'model/l2_h/b'),
    ({'model__l2_h__b': numpy.zeros(1, 'f')}, 'model/l2_h/b'),  # NumPy would broadcast it
    ({'model__l2_h__b': numpy.zeros(16, 'd')}, 'model/l2_h/b'),
    ({'model__l3__W': numpy.zeros((4, 4), 'f')}, 'model/l3/W'),
    ({'model__l3__W': numpy.array([None])}, 'damaged'),         # pickled: refused
    ({'meta': None}, 'not a checkpoint'),
    ({'meta': numpy.array([1, 2], 'u1')}, 'not a checkpoint'),
    ({'meta': meta(format=2)}, 'format 2'),
    ({'meta': meta(n_units=10 ** 9)}, 'model/l0/W'),            # no memory is taken for it
    ({'meta': meta(n_units='4')}, 'no n_units'), ({'meta': meta(n_units=4.)}, 'no n_units'),
    ({'meta': meta(vocabulary=None)}, 'no vocabulary'), ({'meta': meta(vocabulary='abc')}, 'no voc'),
    ({'meta': meta(vocabulary=['a', 'b', ''])}, 'no words'),
    ({'meta': meta(vocabulary=['a', 'b', 3])}, 'no words'),
    ({'meta': meta(options=[])}, 'no options'), ({'meta': meta(text_sum=None)}, 'no text_sum'),
    ({'meta': numpy.frombuffer(b'[]', 'u1')}, 'not a checkpoint'),
    ({'meta': numpy.frombuffer(b'{"format":1}', 'u1')}, 'no kind'),
])
def test_what_does_not_fit_is_refused(saved, change, message):
    rewritten(saved[0], **change)
    with pytest.raises(CheckpointError, match=message) as info:
        checkpoint.load(saved[0])
    assert '\n' not in str(info.value) and str(saved[0]) in str(info.value)


def npy(array):
    file = io.BytesIO()
    numpy.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize('data', [
    b'', b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR', b'PK\x03\x04', 'ホームズは'.encode(),
    pickle.dumps({'a': 1}), npy(numpy.zeros(3))])
def test_foreign_files_are_refused(tmp_path, data):
    (tmp_path / 'm.npz').write_bytes(data)
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / 'm.npz')


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CheckpointError, match='no such file'):
        checkpoint.load(tmp_path / 'none.npz')
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path)


def test_every_cut_and_many_flipped_bits_are_noticed(saved):
    path, model = saved
    data = path.read_bytes()
    for end in range(0, len(data), 97):
        path.write_bytes(data[:end])
        with pytest.raises(CheckpointError):
            checkpoint.load(path)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        offset = archive.getinfo('model/l1_h/W.npy').header_offset + 400  # amid the numbers
    for bit in range(8):
        flipped = bytearray(data)
        flipped[offset] ^= 1 << bit
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError):
            checkpoint.load(path)


def test_nothing_is_ever_pickled(tmp_path):
    with pytest.raises(TypeError):
        class Trainer:
            def serialize(self, serializer):
                serializer('trigger', None)
        checkpoint.save(tmp_path / 'm.npz', RNN(3, 4), META, Trainer())
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(saved, monkeypatch):
    path, model = saved
    before = path.read_bytes()

    def full(*args):
        raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(command.os, 'fsync', full)
    with pytest.raises(OSError) as info:
        checkpoint.save(path, model, META)
    assert pathlib.Path(info.value.filename) == path
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_what_is_no_ordinary_file_is_written_to(tmp_path):
    with command.replacing('/dev/null') as file:
        file.write(b'x')
    (tmp_path / 'file').write_bytes(b'old')
    (tmp_path / 'link').symlink_to('file')
    with command.replacing(tmp_path / 'link') as file:
        file.write(b'new')
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'file').read_bytes() == b'new'


def test_best_cannot_be_resumed(trained):
    with pytest.raises(CheckpointError, match='resume from last.npz'):
        checkpoint.resume(trained / 'best.npz', None)
