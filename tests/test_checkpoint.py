"""checkpoint.py: one file, no pickle, whole or not at all."""

import dataclasses
import io
import json
import os
import pathlib
import pickle
import signal
import struct
import tracemalloc
import zipfile

import numpy
import pytest

from support import checkpoint
import generate
import train
from support.checkpoint import Checkpoint, CheckpointError
from conftest import arrays, forge, run, posix
from rnn import RNN

FIELDS = {
    'kind': 'text',
    'vocabulary': ['a', 'b', '<eos>'],
    'tokenizer': 'space',
    'setup': None,
    'crc': 1,
    'options': {'lr': 0.1},
    'epoch': 2,
    'best_epoch': 1,
    'best_loss': 2.5,
}


@pytest.fixture
def saved(tmp_path):
    """A checkpoint m.npz of a model of four units."""
    checkpoint.save(tmp_path / 'm.npz', Checkpoint(RNN(3, 4), **FIELDS))
    return tmp_path / 'm.npz'


def weights(model):
    return {name: param.array for name, param in model.namedparams()}


def test_what_was_saved_is_loaded(tmp_path, device):
    model = RNN(3, 4)
    expected = {name: array.copy() for name, array in weights(model).items()}
    model.to_device(device)
    checkpoint.save(tmp_path / 'm.npz', Checkpoint(model, **FIELDS))
    loaded = checkpoint.load(tmp_path / 'm.npz')
    assert {name: getattr(loaded, name) for name in FIELDS} == FIELDS
    assert loaded.path == tmp_path / 'm.npz' and loaded.training == {}
    assert weights(loaded.model).keys() == expected.keys()
    for name, array in weights(loaded.model).items():
        assert isinstance(array, numpy.ndarray)
        numpy.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize('cell, n_layers', [('gru', 1), ('rnn', 3), ('lstm', 3)])
def test_cells_and_layers_are_saved(tmp_path, cell, n_layers):
    model = RNN(3, 4, n_layers, cell)
    checkpoint.save(tmp_path / 'm.npz', Checkpoint(model, **FIELDS))
    loaded = checkpoint.load(tmp_path / 'm.npz').model
    for x in ([0], [2], [1]):
        numpy.testing.assert_array_equal(loaded.step(x), model.step(x))


def test_the_file_is_plain_arrays_and_json(saved, trained):
    for path in (saved, trained / 'last.npz', trained / 'best.npz'):
        with numpy.load(path, allow_pickle=False) as npz:
            found = {name: npz[name] for name in npz}  # would fail on a pickled object
        assert json.loads(found['meta'].tobytes())['format'] == 2
        assert found['model/l1_x/W'].dtype == 'f'
        assert any(name.startswith('training/') for name in found) == (path.name == 'last.npz')


@pytest.mark.parametrize(
    'change, message',
    [
        ({'model/l2_h/b': None}, 'model/l2_h/b'),
        ({'model/l2_h/b': numpy.zeros(1, 'f')}, 'model/l2_h/b'),  # NumPy would broadcast it
        ({'model/l2_h/b': numpy.zeros(16, 'd')}, 'model/l2_h/b'),
        ({'model/l3/W': numpy.zeros((4, 4), 'f')}, 'model/l3/W'),
        ({'model/l3/W': numpy.array([None])}, 'damaged'),  # pickled: refused
        ({'model/l2_h/b': numpy.full(16, numpy.nan, 'f')}, 'l2_h/b is not finite'),
        ({'model/l0/W': numpy.full((3, 4), numpy.inf, 'f')}, 'l0/W is not finite'),
        ({'model/l2_h/b': numpy.zeros(16, '>f4')}, 'damaged'),
        ({'model/l2_h/b': numpy.zeros(16, [('a', 'f')])}, 'damaged'),
        ({'meta': None}, 'not a checkpoint'),
        ({'meta': numpy.array([1, 2], 'u1')}, 'not a checkpoint'),
        ({'meta': numpy.frombuffer(b'[' * 100000, 'u1')}, 'not a checkpoint'),
        ({'meta': numpy.frombuffer(b'[]', 'u1')}, 'not a checkpoint'),
        ({'meta': numpy.frombuffer(b'{"format":2}', 'u1')}, 'not a checkpoint'),
    ],
)
def test_arrays_that_do_not_fit_are_refused(saved, change, message):
    forge(saved, changes=change)
    with pytest.raises(CheckpointError, match=message) as info:
        checkpoint.load(saved)
    assert '\n' not in str(info.value) and str(saved) in str(info.value)


@pytest.mark.parametrize(
    'change, message',
    [
        ({'format': 1}, 'format 1'),  # that of earlier versions
        ({'format': 3}, 'format 3'),
        ({'format': '3\n'}, 'no format'),
        ({'n_units': 10**9}, 'model/l0/W'),  # no memory is taken for it
        ({'n_units': '4'}, 'no n_units'),
        ({'n_units': 4.0}, 'no n_units'),
        ({'n_units': 0}, 'no n_units'),
        ({'n_layers': 10**9}, 'no model/l3_h/W'),
        ({'n_layers': 0}, 'no n_layers'),
        ({'n_layers': 1}, 'model/l2/W'),
        ({'cell': 'gru'}, 'model/l1_h/W'),
        ({'cell': 'lstms'}, 'no cell'),
        ({'cell': 3}, 'no cell'),
        ({'vocabulary': None}, 'no vocabulary'),
        ({'vocabulary': 'abc'}, 'no vocabulary'),
        ({'vocabulary': []}, 'no words'),
        ({'vocabulary': ['a', 'b', '']}, 'no words'),
        ({'vocabulary': ['a', 'b', 3]}, 'no words'),
        ({'vocabulary': ['a', 'b', '\ud800']}, 'no words'),
        ({'kind': 'film'}, 'no kind'),
        ({'kind': 'music'}, 'no kind'),  # without a setup
        ({'tokenizer': None}, 'no tokenizer'),
        ({'setup': 3}, 'no setup'),
        ({'options': []}, 'no options'),
        ({'crc': None}, 'no crc'),
        ({'epoch': 'x'}, 'no epoch'),
        ({'best_loss': 'x'}, 'no best_loss'),
    ],
)
def test_fields_that_do_not_fit_are_refused(saved, change, message):
    forge(saved, change)
    with pytest.raises(CheckpointError, match=message) as info:
        checkpoint.load(saved)
    assert '\n' not in str(info.value) and str(saved) in str(info.value)


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR',
        b'PK\x03\x04',
        'ホームズは'.encode(),
        pickle.dumps({'a': 1}),
        b'\x93NUMPY\1\0',
    ],
)
def test_foreign_files_are_refused(tmp_path, data):
    (tmp_path / 'm.npz').write_bytes(data)
    with pytest.raises(CheckpointError, match='m.npz: not a checkpoint'):
        checkpoint.load(tmp_path / 'm.npz')


@posix
def test_missing_files_folders_and_devices(tmp_path):
    with pytest.raises(CheckpointError, match='no such file'):
        checkpoint.load(tmp_path / 'none.npz')
    with pytest.raises(CheckpointError, match='directory'):
        checkpoint.load(tmp_path)
    with pytest.raises(CheckpointError, match='device'):
        checkpoint.load('/dev/zero')


def test_a_best_model_cannot_be_resumed(trained, failed):
    assert 'resume from last.npz' in failed(1, train, '--resume', trained / 'best.npz')


def test_a_run_of_an_earlier_version_is_refused(trained, failed):
    forge(trained / 'last.npz', {'format': 1})
    for argv in ([train, '--resume'], [generate, '--model', trained]):
        line = failed(1, *argv)
        assert 'last.npz: format 1' in line and 'format 2' in line


# What a stranger may have written


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
    with_member(saved, 'model/l1_h/W.npy', npy_of(header, bytes(256)))
    with pytest.raises(CheckpointError, match='damaged'):
        checkpoint.load(saved)
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


def test_nothing_is_executed(trained, folder, failed):
    path = trained / 'last.npz'
    good, array = path.read_bytes(), numpy.array([Exploit()])
    for name in ('meta', 'model/l0/W', 'training/sums'):
        path.write_bytes(good)
        forge(path, changes={name: array})
        assert 'damaged' in failed(1, train, '--resume', path)
        if name == 'training/sums':  # which it does not even look at
            assert run(generate, '--model', path, '--length', 1) == 0
        else:
            assert 'damaged' in failed(1, generate, '--model', path)
    npy = io.BytesIO()
    numpy.save(npy, array)
    for data in (pickle.dumps(Exploit()), npy.getvalue()):
        path.write_bytes(data)
        for program, option in ((generate, '--model'), (train, '--resume')):
            assert 'damaged' in failed(1, program, option, path)
    assert not (folder / 'executed').exists()
    pickle.loads(pickle.dumps(Exploit()))  # it would have
    assert (folder / 'executed').exists()


@pytest.mark.parametrize(
    'name, value',
    [
        ('optimizer/t', None),
        ('optimizer/t', numpy.array([38, 38])),
        ('optimizer/l0/W/m', numpy.zeros(1, 'f')),
        ('optimizer/l0/W/m', lambda m: m.astype('d')),
        ('optimizer/l0/W/v', None),
        ('state/c1', numpy.zeros((1, 1), 'f')),
        ('state/c1', lambda c: c.astype('d')),
        ('state/h2', lambda h: h[:2]),
        ('state/h2', None),
        ('random', lambda random: random[:9]),
        ('random', lambda random: random.astype('u8')),
        ('random', None),
        ('sums', numpy.zeros(4)),
        ('sums', numpy.zeros(3, 'f')),
        ('sums', None),
    ],
)
def test_a_training_state_that_does_not_fit_is_refused(trained, failed, name, value):
    path = trained / 'last.npz'
    forge(path, changes={f'training/{name}': value})
    before = path.read_bytes()
    assert f'{path}: ' in failed(1, train, '--resume', trained, '--epoch', 3)
    assert path.read_bytes() == before


def declared(path, name, size):
    """Overwrites the size that the table of contents of a zip declares for a member."""
    data = bytearray(path.read_bytes())
    entry = data.rindex(name.encode()) - 46
    assert data[entry : entry + 4] == b'PK\1\2'
    data[entry + 20 : entry + 28] = struct.pack('<II', size, size)
    path.write_bytes(data)


def packed_zeros(path):
    meta = arrays(path)['meta']
    numpy.savez_compressed(path, meta=meta, **{'model/l0/W': numpy.zeros((3000, 3000), 'f')})


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
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (40000, 10000), }"
    with_member(path, 'model/l1_h/W.npy', npy_of(header))


def larger_model(path):
    """Embedding and output of one word are small; the layers would be 6 GB each."""
    forge(
        path,
        {'n_units': 20000, 'vocabulary': ['<eos>']},
        {'model/l0/W': numpy.zeros((1, 20000), 'f'), 'model/l3/W': numpy.zeros((1, 20000), 'f')},
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
    bomb(saved)
    tracemalloc.start()
    with pytest.raises(CheckpointError):
        checkpoint.load(saved)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300000 + 4 * saved.stat().st_size


def test_a_bomb_of_json_takes_thirty_times_the_file(saved):
    forge(saved, {'options': {'x': [{'a': 1}] * 200000}})
    tracemalloc.start()
    checkpoint.load(saved)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * saved.stat().st_size


def test_loading_takes_a_few_times_the_file(tmp_path):
    path = tmp_path / 'm.npz'
    vocabulary = [f'word {n}' for n in range(3000)]
    checkpoint.save(path, Checkpoint(RNN(3000, 100), **{**FIELDS, 'vocabulary': vocabulary}))
    tracemalloc.start()
    checkpoint.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * path.stat().st_size


# Whole or not at all


def test_every_cut_and_many_flipped_bits_are_noticed(saved):
    """A flipped bit may lie where nothing reads it, a date for instance; then all is as it was."""
    data, expected = saved.read_bytes(), weights(checkpoint.load(saved).model)
    for end in range(0, len(data), 97):
        saved.write_bytes(data[:end])
        with pytest.raises(CheckpointError):
            checkpoint.load(saved)
    refused = 0
    for n, offset in enumerate(range(0, len(data), 5)):
        flipped = bytearray(data)
        flipped[offset] ^= 1 << n % 8
        saved.write_bytes(flipped)
        try:
            loaded = checkpoint.load(saved)
        except CheckpointError:
            refused += 1
        else:
            assert {name: getattr(loaded, name) for name in FIELDS} == FIELDS
            for name, array in weights(loaded.model).items():
                assert array.tobytes() == expected[name].tobytes()
    assert refused > len(data) / 5 / 2


@pytest.mark.skipif(not hasattr(signal, 'SIGXFSZ'), reason='no file size limit here')
def test_a_full_disk_leaves_the_old_file(saved):
    import resource

    before, loaded = saved.read_bytes(), checkpoint.load(saved)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) - 1000, limits[1]))
    try:
        with pytest.raises(OSError) as info:
            checkpoint.save(saved, dataclasses.replace(loaded, epoch=9))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert pathlib.Path(info.value.filename) == saved
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
