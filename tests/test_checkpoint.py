"""checkpoint.py: one file, no pickle, whole or not at all."""

import errno
import io
import json
import os
import pathlib
import pickle
import struct
import tracemalloc
import zipfile

import numpy
import pytest

from support import checkpoint
from support import terminal
import generate
import train
from support.checkpoint import CheckpointError
from rnn import RNN

META = {
    'kind': 'text',
    'vocabulary': ['a', 'b', '<eos>'],
    'cut': 'space',
    'options': {'lr': 0.1},
    'epoch': 1,
    'history': [{'epoch': 1, 'main/loss': 2.5}],
    'text_sum': 1,
}


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
    assert meta == {'format': 1, 'n_units': 4, 'n_layers': 2, 'cell': 'lstm', **META}
    model.to_device('@numpy')
    for (name, expected), (_, param) in zip(model.namedparams(), loaded.namedparams()):
        assert isinstance(param.array, numpy.ndarray)
        numpy.testing.assert_array_equal(param.array, expected.array, err_msg=name)


@pytest.mark.parametrize('cell, n_layers', [('gru', 1), ('rnn', 3), ('lstm', 3)])
def test_cells_and_layers_are_saved(tmp_path, cell, n_layers):
    model = RNN(3, 4, n_layers, cell)
    checkpoint.save(tmp_path / 'm.npz', model, META)
    loaded, _ = checkpoint.load(tmp_path / 'm.npz')
    for x in ([0], [2], [1]):
        numpy.testing.assert_array_equal(loaded.step(x), model.step(x))


def test_a_checkpoint_from_before_there_were_cells(saved):
    path, model = saved
    rewritten(
        path, meta=numpy.frombuffer(json.dumps({'format': 1, 'n_units': 4, **META}).encode(), 'u1')
    )
    loaded, meta = checkpoint.load(path)
    assert (meta['n_layers'], meta['cell']) == (2, 'lstm')
    numpy.testing.assert_array_equal(loaded.step([1]), model.step([1]))


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


@pytest.mark.parametrize(
    'change, message',
    [
        ({'model__l2_h__b': None}, 'model/l2_h/b'),
        ({'model__l2_h__b': numpy.zeros(1, 'f')}, 'model/l2_h/b'),  # NumPy would broadcast it
        ({'model__l2_h__b': numpy.zeros(16, 'd')}, 'model/l2_h/b'),
        ({'model__l3__W': numpy.zeros((4, 4), 'f')}, 'model/l3/W'),
        ({'model__l3__W': numpy.array([None])}, 'damaged'),  # pickled: refused
        ({'meta': None}, 'not a checkpoint'),
        ({'meta': numpy.array([1, 2], 'u1')}, 'not a checkpoint'),
        ({'meta': meta(format=2)}, 'format 2'),
        ({'meta': meta(n_units=10**9)}, 'model/l0/W'),  # no memory is taken for it
        ({'meta': meta(n_units='4')}, 'no n_units'),
        ({'meta': meta(n_units=4.0)}, 'no n_units'),
        ({'meta': meta(vocabulary=None)}, 'no vocabulary'),
        ({'meta': meta(vocabulary='abc')}, 'no voc'),
        ({'meta': meta(vocabulary=['a', 'b', ''])}, 'no words'),
        ({'meta': meta(vocabulary=['a', 'b', 3])}, 'no words'),
        ({'meta': meta(options=[])}, 'no options'),
        ({'meta': meta(text_sum=None)}, 'no text_sum'),
        *(
            ({'meta': meta(history=history)}, 'no history of 1 epochs')
            for history in (
                [],
                [1],
                [{}],
                [{'epoch': 1}],
                [{'epoch': 2, 'main/loss': 2.5}],
                [{'epoch': 1, 'main/loss': 'x'}],
                [{'epoch': 1, 'main/loss': float('nan')}],
                [{'epoch': 1, 'main/loss': 2.5}] * 2,
            )
        ),
        ({'meta': meta(n_layers=10**9)}, 'no model/l3_h/W'),
        ({'meta': meta(n_layers=0)}, 'no n_layers'),
        ({'meta': meta(n_layers=1)}, 'model/l2/W'),
        ({'meta': meta(cell='gru')}, 'model/l1_h/W'),
        ({'meta': meta(cell='lstms')}, 'no cell'),
        ({'meta': meta(cell=3)}, 'no cell'),
        ({'meta': meta(n_units=0)}, 'no n_units'),
        ({'meta': meta(format='2\n')}, 'no format'),
        ({'meta': meta(vocabulary=[])}, 'no words'),
        ({'model__l2_h__b': numpy.full(16, numpy.nan, 'f')}, 'l2_h/b is not finite'),
        ({'model__l0__W': numpy.full((3, 4), numpy.inf, 'f')}, 'l0/W is not finite'),
        ({'model__l2_h__b': numpy.zeros(16, '>f4')}, 'damaged'),
        ({'model__l2_h__b': numpy.zeros(16, [('a', 'f')])}, 'damaged'),
        ({'meta': meta(vocabulary=['a', 'b', '\ud800'])}, 'no words'),
        ({'meta': numpy.frombuffer(b'[' * 100000, 'u1')}, 'not a checkpoint'),
        ({'meta': numpy.frombuffer(b'[]', 'u1')}, 'not a checkpoint'),
        ({'meta': numpy.frombuffer(b'{"format":1}', 'u1')}, 'no kind'),
    ],
)
def test_what_does_not_fit_is_refused(saved, change, message):
    rewritten(saved[0], **change)
    with pytest.raises(CheckpointError, match=message) as info:
        checkpoint.load(saved[0])
    assert '\n' not in str(info.value) and str(saved[0]) in str(info.value)


def npy(array):
    file = io.BytesIO()
    numpy.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR',
        b'PK\x03\x04',
        'ホームズは'.encode(),
        pickle.dumps({'a': 1}),
        npy(numpy.zeros(3)),
    ],
)
def test_foreign_files_are_refused(tmp_path, data):
    (tmp_path / 'm.npz').write_bytes(data)
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / 'm.npz')


@pytest.mark.parametrize(
    'header',
    [
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9**9**9,), }",
        "{'descr': '<b4', 'fortran_order': False, 'shape': (4,), }",
        "__import__('os').mkdir('executed')",
        '(' * 3000,
    ],
)
def test_headers_are_not_evaluated(saved, header, folder):
    path, _ = saved
    with_member(path, 'model/l1_h/W.npy', npy_of(header, bytes(256)))
    with pytest.raises(CheckpointError, match='damaged'):
        checkpoint.load(path)
    assert not (folder / 'executed').exists()


def npy_of(header, data=b''):
    """The bytes of a .npy file, format 1.0, with this header (str)."""
    return b'\x93NUMPY\1\0' + struct.pack('<H', len(header) + 1) + header.encode() + b'\n' + data


def with_member(path, name, data):
    """Replaces the bytes of a member of a zip."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    assert name in members
    with zipfile.ZipFile(path, 'w') as archive:
        for member, old in members.items():
            archive.writestr(member, data if member == name else old)


class Exploit:
    """What pickle executes when it loads this."""

    def __reduce__(self):
        return os.mkdir, ('executed',)


def test_nothing_is_executed(saved, folder, capsys):
    path, _ = saved
    array = numpy.array([Exploit()])
    for change in ({'meta': array}, {'model__l0__W': array}, {'trainer__updater__sums': array}):
        checkpoint.save(path, RNN(3, 4), META)
        rewritten(path, **change)
        assert train.main(['--resume', str(path)]) == 1
        # which does not even look at the state of a training
        assert generate.main(['--model', str(path)]) == (
            0 if 'trainer__updater__sums' in change else 1
        )
    for data in (pickle.dumps(Exploit()), npy(array)):
        path.write_bytes(data)
        for main, option in ((generate.main, '--model'), (train.main, '--resume')):
            assert main([option, str(path)]) == 1
    assert capsys.readouterr().err.count('\n') == 10
    assert not (folder / 'executed').exists()
    pickle.loads(pickle.dumps(Exploit()))  # it would have
    assert (folder / 'executed').exists()


def declared(path, name, size):
    """Overwrites the size that the table of contents of a zip declares for a member."""
    data = bytearray(path.read_bytes())
    entry = data.rindex(name.encode()) - 46
    assert data[entry : entry + 4] == b'PK\1\2'
    data[entry + 20 : entry + 28] = struct.pack('<II', size, size)
    path.write_bytes(data)


def packed_zeros(path):
    numpy.savez_compressed(path, meta=meta(), **{'model/l0/W': numpy.zeros((3000, 3000), 'f')})


def packed_size_that_lies(path):
    """As many bytes as the table says are packed are asked for at once; mutations.py found it."""
    data = bytearray(path.read_bytes())
    entry = data.rindex(b'meta.npy') - 46
    data[entry + 20 : entry + 24] = struct.pack('<I', 1 << 30)
    path.write_bytes(data)


def packed_zeros_that_lie(path):
    """Unpacking goes on to the end of what is packed before the declared size is looked at."""
    numpy.savez_compressed(path, meta=numpy.zeros(50_000_000, 'u1'))
    data = bytearray(path.read_bytes())
    entry = data.rindex(b'meta.npy') - 46
    data[entry + 24 : entry + 28] = struct.pack('<I', 1000)
    path.write_bytes(data)


def larger_array(path):
    with_member(
        path,
        'model/l1_h/W.npy',
        npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (40000, 10000), }"),
    )


def larger_model(path):
    """Embedding and output of one word are small, whatever n_units; the layers would be 4 * 20000 * 20000 * 4 bytes each."""
    rewritten(
        path,
        meta=meta(n_units=20000, vocabulary=['<eos>']),
        model__l0__W=numpy.zeros((1, 20000), 'f'),
        model__l3__W=numpy.zeros((1, 20000), 'f'),
    )


@pytest.mark.parametrize(
    'bomb',
    [
        packed_zeros,
        packed_zeros_that_lie,
        packed_size_that_lies,
        larger_array,
        larger_model,
        lambda path: declared(path, 'meta.npy', 4000000000),
        lambda path: declared(path, 'model/l0/W.npy', 3000000000),
    ],
)
def test_bombs_take_no_memory(saved, bomb):
    path, _ = saved
    bomb(path)
    tracemalloc.start()
    with pytest.raises(CheckpointError):
        checkpoint.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300000 + 4 * path.stat().st_size


def test_a_bomb_of_json_takes_thirty_times_the_file(saved):
    path, _ = saved
    rewritten(path, meta=meta(options={'x': [{'a': 1}] * 200000}))
    tracemalloc.start()
    checkpoint.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * path.stat().st_size


def test_loading_takes_a_few_times_the_file(tmp_path):
    path = tmp_path / 'm.npz'
    checkpoint.save(
        path, RNN(3000, 100), {**META, 'vocabulary': [f'word {n}' for n in range(3000)]}
    )
    tracemalloc.start()
    checkpoint.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * path.stat().st_size


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CheckpointError, match='no such file'):
        checkpoint.load(tmp_path / 'none.npz')
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path)
    with pytest.raises(CheckpointError, match='device'):
        checkpoint.load('/dev/zero')


def test_every_cut_and_many_flipped_bits_are_noticed(saved):
    """A flipped bit may lie where nothing reads it, a date for instance; then all is as it was."""
    path, model = saved
    data = path.read_bytes()
    for end in range(0, len(data), 97):
        path.write_bytes(data[:end])
        with pytest.raises(CheckpointError):
            checkpoint.load(path)
    refused = 0
    for n, offset in enumerate(range(0, len(data), 5)):
        flipped = bytearray(data)
        flipped[offset] ^= 1 << n % 8
        path.write_bytes(flipped)
        try:
            loaded, meta = checkpoint.load(path)
        except CheckpointError:
            refused += 1
        else:
            assert meta == {'format': 1, 'n_units': 4, 'n_layers': 2, 'cell': 'lstm', **META}
            for (name, expected), (_, param) in zip(model.namedparams(), loaded.namedparams()):
                assert param.array.tobytes() == expected.array.tobytes()
    assert refused > len(data) / 5 / 2


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

    monkeypatch.setattr(terminal.os, 'fsync', full)
    with pytest.raises(OSError) as info:
        checkpoint.save(path, model, META)
    assert pathlib.Path(info.value.filename) == path
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_best_cannot_be_resumed(trained):
    with pytest.raises(CheckpointError, match='resume from last.npz'):
        checkpoint.load_run(trained / 'best.npz')
