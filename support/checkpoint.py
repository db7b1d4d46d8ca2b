"""One file with everything a trained model needs: weights, vocabulary, options.

A checkpoint is an uncompressed .npz (a zip of .npy arrays; numpy.load reads it):

    meta          uint8, UTF-8 JSON: the format, the size of the network, the fields of Checkpoint
    model/...     float32 weights under Chainer's names (model/l1_x/W) and in its layout
    training/...  what --resume needs besides: Adam's moments, LSTM state, random state

No Python object is ever pickled or unpickled and no header is evaluated, so a file from a
stranger is data and nothing else. Nothing is compressed, and no array may be larger than the
file. Loading takes a few times the memory of the arrays, and thirty times that of the JSON at
most. It loads on a CPU, whatever device trained it. Equal runs write equal files: no times are
in it.
"""

import dataclasses
import functools
import json
import os
import pathlib
import re
import sys
import zipfile

from support import modern_chainer  # noqa: F401  prepares chainer's import

import numpy
from chainer import serializers
from chainer.backends import cuda

from rnn import CELLS, RNN
from support import parallel, terminal

FILES = ('last.npz', 'best.npz', 'log.jsonl', 'loss.png')  # of a run, see support/run.py
FORMAT = 2

# What NumPy writes above an array of numbers (its NEP 1), and nothing else that it would evaluate.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\0..\{'descr': '([<|](?:b1|[iu][1248]|f[248]))', 'fortran_order': "
    rb"(True|False), 'shape': \(([0-9, ]*)\), \} *\n",
    re.DOTALL,
)
_WORD = re.compile('[^\ud800-\udfff]+')  # without halves of characters: no output could hold them


class CheckpointError(terminal.UserError):
    """A file is no checkpoint that this version can read; the message is one line."""


@dataclasses.dataclass
class Checkpoint:
    """A trained model, and what its ids mean."""

    model: RNN
    kind: str  # of what it has learned: 'text' or 'music'
    vocabulary: list  # of str; the position of a word is its id
    tokenizer: str  # what cut the text into words, see support/text.py
    setup: dict | None  # of a piece of music: what its words do not tell, see read_midi.Setup
    crc: int  # zlib.crc32 of the ids that it learns
    sources: list = dataclasses.field(default_factory=list)  # of str: files, see data.Data
    options: dict = dataclasses.field(default_factory=dict)  # of train.py
    epoch: int | float = 0  # how many times the text was read; in best.npz maybe a part of a time
    best_epoch: int | float = 0  # with the lowest validation loss
    best_loss: float | None = None  # nats per word, of that epoch; None without validation
    training: dict = dataclasses.field(default_factory=dict)  # arrays, from training_state
    path: pathlib.Path | None = None  # where it was loaded from


_TYPES = {  # of the fields that are in the meta
    field.name: field.type
    for field in dataclasses.fields(Checkpoint)
    if field.name not in ('model', 'training', 'path')
}


def save(path, saved):
    """Writes a Checkpoint. OSError if it cannot be written; an old file stays whole then."""
    model = saved.model
    meta = {'format': FORMAT, 'n_units': model.n_units, 'n_layers': model.n_layers}
    meta |= {'cell': model.cell, **{name: getattr(saved, name) for name in _TYPES}}
    target = {'meta': numpy.frombuffer(json.dumps(meta).encode(), 'u1')}
    serializers.DictionarySerializer(target, 'model/').save(model)
    target |= {f'training/{name}': array for name, array in saved.training.items()}
    with terminal.replacing(path) as file:
        # sorted: Chainer's order changes with Python's hash seed
        numpy.savez(file, **dict(sorted(target.items())))


@terminal.doing('preparing the network')
def load(path, training=False):
    """Reads a Checkpoint, with training=True also what `resume` needs; the model is on the CPU.

    CheckpointError if the file is missing, damaged, foreign, of another format, or does not fit
    together; with training=True also if it holds no such state, as best.npz does.
    """
    arrays = _arrays(path, 'meta', 'model/', *['training/'] * training)
    meta = _meta(path, arrays)
    found = {
        name.removeprefix('training/'): array
        for name, array in arrays.items()
        if name.startswith('training/')
    }
    if training and not found:
        raise CheckpointError(f'{path}: a model without its training state; resume from last.npz')
    model = _model(path, meta, arrays)
    fields = {name: meta[name] for name in _TYPES}
    return Checkpoint(model, **fields, training=found, path=pathlib.Path(path))


def kind_of(path):
    """What a checkpoint has learned, 'text' or 'music'; CheckpointError as from `load`."""
    return _meta(path, _arrays(path, 'meta'))['kind']


def runs(folder='result'):
    """The last.npz files (list of pathlib.Path) below a folder, the newest first.

    Runs that were moved aside, to old-1 and so on, are left out; folders that cannot be read, too,
    and named on stderr.
    """

    def tell(error):
        if os.path.isdir(error.filename):  # result/ itself may not be there yet
            print(f'left out: {error.filename}: {error.strerror}', file=sys.stderr)

    found = [
        pathlib.Path(parent, 'last.npz')
        for parent, _, files in os.walk(folder, onerror=tell)
        if 'last.npz' in files and not os.path.basename(parent).startswith('old-')
    ]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def find(model, best, kind):
    """The path of the checkpoint that --model and --best mean; CheckpointError if there is none."""
    path = pathlib.Path(model) if model is not None else newest(kind)
    if path.is_dir():
        path = path / 'last.npz'
    if best:
        path = path.with_name('best.npz')
        if not path.exists():
            raise CheckpointError(f'{path}: no such file; only a run with validation has one')
    return path


def newest(kind):
    """The path of the newest checkpoint below result/ of that kind, 'text' or 'music'."""
    others = []
    for path in runs():
        try:
            if kind_of(path) == kind:
                return path
            others.append(path)
        except CheckpointError as error:
            print(f'left out: {error}', file=sys.stderr)
    advice = 'train one: python train.py --corpus holmes.txt'
    if kind == 'music':
        advice = 'train one: python train.py --midi track1.mid'
    elif others:
        advice = f'--midi out.mid composes with {others[0]}'
    raise CheckpointError(f'no model of {kind} below result/; {advice}')


def training_state(model, optimizer, sums, comm):
    """All that the next window depends on, except the weights: dict of name (str) to array.

    sums: (3,) float64, of this epoch so far. All processes of comm have to call it.
    FloatingPointError if a weight or a state is no finite number.
    """
    state = {'sums': sums}
    serializers.DictionarySerializer(state, 'optimizer/').save(optimizer)
    for name, variable in model.state.items():
        parts = comm.mpi_comm.allgather(cuda.to_cpu(variable.array))
        state['state/' + name] = numpy.concatenate(parts)
    _, keys, position, *_ = numpy.random.get_state()  # it draws dropout's masks
    state['random'] = numpy.array([*keys, position], 'u4')
    if not (
        all(numpy.isfinite(array).all() for array in state.values())
        and all(model.xp.isfinite(param.array).all() for param in model.params())
    ):
        raise FloatingPointError(f'weights are no numbers any more after step {optimizer.t}')
    return state


def resume(trained, saved, optimizer, batchsize, comm):
    """Goes on from the Checkpoint `saved`, or from nothing (None); returns the sums, (3,) float64.

    trained: a new Checkpoint, which gets its epochs; batchsize (int): the streams of all processes.
    NumPy's global random state is set, too. CheckpointError, which names the path, if a name, a
    shape or a dtype does not fit.
    """
    if not saved:
        return numpy.zeros(3)
    trained.epoch, trained.best_epoch = saved.epoch, saved.best_epoch
    trained.best_loss, model = saved.best_loss, trained.model
    path, state = saved.path, saved.training
    array = functools.partial(_fitting, path, state)
    try:
        serializers.NpzDeserializer(state, 'optimizer/').load(optimizer)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f'{path}: its training state does not fit: {error}') from None
    steps = {optimizer.t, *(param.update_rule.t for param in model.params())}
    if len(steps) > 1 or optimizer.t < 0:
        raise CheckpointError(f'{path}: its training state does not fit: steps {sorted(steps)}')
    for name, param in model.namedparams():
        for key in param.update_rule.state or {}:
            array(f'optimizer{name}/{key}', param.shape)
    for name, variable in model.state.items():
        rows = array('state/' + name, (batchsize, model.n_units))
        variable.array = model.device.send(rows[parallel.share(comm, batchsize)])
    random = array('random', (625,), 'u4')
    numpy.random.set_state(('MT19937', random[:-1], min(int(random[-1]), 624)))
    if comm.rank:  # that state is the first process's; the others are seeded from it
        numpy.random.seed([numpy.random.randint(2**32, dtype='u4'), comm.rank])
    if model.xp is not numpy:  # CuPy's generator cannot be saved, only seeded anew
        model.xp.random.seed(optimizer.t + (comm.rank << 32))
    return array('sums', (3,), 'd').copy()


def begin(model, initial):
    """Gives an RNN the weights of the Checkpoint `initial`, or lets it be as it is (None).

    The words of `initial` are the first words of the model. The rows of the others, in the
    embedding and in the output layer, stay as they are.
    """
    if initial:
        weights = dict(model.namedparams())
        for name, param in initial.model.namedparams():
            weights[name].array[: len(param.array)] = param.array


def updates_of(saved):
    """How many updates (int) the training state of a Checkpoint has seen; CheckpointError."""
    updates = saved.training.get('optimizer/t')
    if updates is None or updates.shape or updates.dtype.kind not in 'iu':
        raise CheckpointError(f'{saved.path}: its training state does not fit: no optimizer/t')
    return int(updates)


def _fitting(path, arrays, name, shape, dtype='f'):
    """The array of that name; CheckpointError if it is missing or has another shape or dtype."""
    found = arrays.get(name)
    if found is None:
        raise CheckpointError(f'{path}: not a checkpoint of this program: no {name}')
    if found.shape != shape or found.dtype != dtype:
        right = f'{numpy.dtype(dtype)} {shape}'
        raise CheckpointError(f'{path}: {name} is {found.dtype} {found.shape}, not {right}')
    return found


def _model(path, meta, arrays):
    """The RNN that the arrays of a checkpoint make; CheckpointError if they do not fit together."""
    n_vocab, n_units, n_layers = len(meta['vocabulary']), meta['n_units'], meta['n_layers']

    def array(name, shape):
        found = _fitting(path, arrays, 'model/' + name, shape)
        if not numpy.isfinite(found).all():
            raise CheckpointError(f'{path}: model/{name} is not finite')
        return found

    # The largest arrays come first: no memory is taken for a model that the file does not hold.
    array('l0/W', (n_vocab, n_units))
    for k in range(1, n_layers + 1):
        array(f'l{k}_h/W', (CELLS[meta['cell']] * n_units, n_units))
    array(f'l{n_layers + 1}/W', (n_vocab, n_units))
    model = RNN(n_vocab, n_units, n_layers, meta['cell'])
    for name, param in model.namedparams():
        param.array[...] = array(name[1:], param.shape)
    return model


def _meta(path, arrays):
    """The meta (dict) of a checkpoint, complete; CheckpointError if it is not."""
    foreign = f'{path}: not a checkpoint of this program'
    try:
        meta = json.loads(arrays['meta'].tobytes())
        version = meta['format']
    except (KeyError, TypeError, ValueError, RecursionError):
        raise CheckpointError(f'{foreign} (no meta)') from None
    if version != FORMAT and type(version) is int:
        raise CheckpointError(
            f'{path}: format {version}, but this version reads format {FORMAT}; '
            'train again, or use the version that wrote it'
        )
    types = {'format': int, 'n_units': int, 'n_layers': int, 'cell': str, **_TYPES}
    for name, kind in types.items():
        if not isinstance(meta.get(name), kind):
            raise CheckpointError(f'{foreign} (no {name})')
    words = meta['vocabulary']
    right = {
        'words': words and all(isinstance(word, str) and _WORD.fullmatch(word) for word in words),
        'kind': meta['kind'] == 'text' or meta['kind'] == 'music' and meta['setup'] is not None,
        'n_units': meta['n_units'] > 0,
        'n_layers': meta['n_layers'] > 0,
        'cell': meta['cell'] in CELLS,
        'sources': all(isinstance(path, str) and '\0' not in path for path in meta['sources']),
    }
    for name, is_right in right.items():
        if not is_right:
            raise CheckpointError(f'{foreign} (no {name})')
    return meta


def _arrays(path, *prefixes):
    """The arrays of a .npz whose names begin with one of the prefixes: dict of name to array.

    CheckpointError, whatever is wrong with the file.
    """
    damaged = f'{path}: not a checkpoint, or a damaged one'
    try:
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            raise CheckpointError(f'{path}: a pipe or a device, not a file')  # it might never end
        with terminal.opened(path) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            # compress_size may lie: as many bytes would be asked for at once
            if (
                any(
                    member.compress_type != zipfile.ZIP_STORED
                    or member.compress_size != member.file_size
                    for member in members
                )
                or sum(member.file_size for member in members) > os.fstat(file.fileno()).st_size
            ):
                raise CheckpointError(f'{damaged}: its arrays are packed, or larger than the file')
            arrays, wanted = {}, [m for m in members if m.filename.startswith(prefixes)]
            size = sum(member.file_size for member in wanted)
            with terminal.doing('reading a checkpoint', size) as advance:
                for member in wanted:
                    arrays[member.filename.removesuffix('.npy')] = _array(archive.read(member))
                    advance(member.file_size)
            return arrays
    except CheckpointError:
        raise
    except FileNotFoundError:
        near = terminal.files_like(path)
        raise CheckpointError(f'{path}: no such file or folder{near}') from None
    except OSError as error:
        raise CheckpointError(f'{path}: {error.strerror or error}') from None
    # RuntimeError: NotImplementedError, too; ArithmeticError: OverflowError
    except (EOFError, MemoryError, RuntimeError, ArithmeticError, ValueError, zipfile.BadZipFile):
        raise CheckpointError(damaged) from None


def _array(data):
    """The array in the bytes of a .npy file; ValueError if it is not one of numbers."""
    header = _HEADER.match(data)
    if not header:
        raise ValueError
    dtype, fortran, shape = header.groups()
    shape = tuple(int(n) for n in shape.split(b',') if n.strip())
    order = 'F' if fortran == b'True' else 'C'
    array = numpy.frombuffer(data, dtype.decode(), offset=header.end())
    return array.reshape(shape, order=order).copy(order)
