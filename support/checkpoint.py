"""One file with everything a trained model needs: weights, vocabulary, options, history.

A checkpoint is an uncompressed .npz (a zip of .npy arrays, numpy.load reads it):

    meta        uint8, UTF-8 JSON: format and FIELDS
    model/...   float32 weights under Chainer's names (model/l1_x/W) and layout
    trainer/... Adam's moments, LSTM state, random state, position: for --resume

No Python object is ever pickled or unpickled and no header evaluated, so a file from
a stranger is data and nothing else. Nothing is packed, and no array is taken to be larger
than the file: loading takes a few times the memory of the arrays, and thirty times that of
the JSON at most. It loads on a CPU, whatever device trained it. Equal runs write equal files:
times are not in it.
"""

import json
import os
import pathlib
import re
import stat
import sys
import zipfile

from support import modern_chainer  # noqa: F401  prepares chainer's import

import numpy
from chainer import serializers

from support import terminal
from rnn import CELLS, RNN

FORMAT = 1
FIELDS = {
    'kind': str,
    'n_units': int,
    'n_layers': int,
    'cell': str,
    'vocabulary': list,
    'cut': str,
    'text_sum': int,
    'options': dict,
    'epoch': int,
    'history': list,
}  # what meta must hold; music has 'music' too
STATE = 'trainer/updater/'

# What NumPy writes above an array of numbers (its NEP 1), and nothing else that it would evaluate.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\0..\{'descr': '([<|](?:b1|[iu][1248]|f[248]))', 'fortran_order': (True|False), "
    rb"'shape': \(([0-9, ]*)\), \} *\n",
    re.DOTALL,
)


class CheckpointError(ValueError):
    """A file is no checkpoint that this version can read; the message is one line."""


def save(path, model, meta, updater=None):
    """Writes a checkpoint.

    model: RNN on any device; meta: dict that JSON can hold, with all of FIELDS but
    those of the model, 'vocabulary' a list of n_vocab str, 'history' a list of a dict of numbers
    for each epoch; updater: its serialize(serializer) gives what an exact resumption
    takes besides the weights, or None. OSError if it cannot be written; the old file
    stays whole then.
    """
    meta = {
        'format': FORMAT,
        'n_units': model.n_units,
        'n_layers': model.n_layers,
        'cell': model.cell,
        **meta,
    }
    target = {'meta': numpy.frombuffer(json.dumps(meta).encode(), 'u1')}
    serializers.DictionarySerializer(target, 'model/').save(model)
    if updater is not None:
        serializers.DictionarySerializer(target, STATE).save(updater)
    for name, array in target.items():
        if array.dtype.hasobject:  # would be pickled
            raise TypeError(f'{name} is not a plain array')
    with terminal.replacing(path) as file:
        numpy.savez(
            file, **dict(sorted(target.items()))
        )  # Chainer's order changes with Python's hash seed


def load(path):
    """Reads a checkpoint: (RNN on the CPU, meta dict).

    CheckpointError if the file is missing, damaged, foreign, of a newer format
    or does not fit together.
    """
    return _model(path, _arrays(path, 'meta', 'model/'))


def load_run(path):
    """Reads a checkpoint with what `resume` needs: (RNN on the CPU, meta dict, state).

    state: dict of name to array. CheckpointError as from `load`, and if there is no such
    state (in a best.npz).
    """
    arrays = _arrays(path, 'meta', 'model/', STATE)
    model, meta = _model(path, arrays)
    state = {name: array for name, array in arrays.items() if name.startswith(STATE)}
    if not state:
        raise CheckpointError(f'{path}: holds a model but no training state; resume from last.npz')
    return model, meta, state


def resume(path, state, updater):
    """Puts the state from `load_run` into an updater like the one that was saved.

    The updater checks what the numbers mean (ValueError), here their shapes and dtypes have to be
    those that it gives, and all be finite. It also sets NumPy's global random state.
    CheckpointError, with the `path`, if they do not fit.
    """
    try:
        serializers.NpzDeserializer(state, STATE).load(updater)
        taken = {}
        serializers.DictionarySerializer(taken, STATE).save(updater)
        for name, array in taken.items():
            found = state[name]
            if (found.dtype, found.shape) != (array.dtype, array.shape):  # NumPy has made it fit
                raise ValueError(
                    f'{name} is {found.dtype} {found.shape}, not {array.dtype} {array.shape}'
                )
            if not numpy.isfinite(found).all():
                raise ValueError(f'{name} is not finite')
    except KeyError as error:
        raise CheckpointError(f'{path}: its training state lacks {error.args[0]}') from None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f'{path}: its training state does not fit: {error}') from None


def _model(path, arrays):
    """(RNN, meta) of the arrays of a checkpoint; CheckpointError if they do not fit together."""
    meta = _meta(path, arrays)
    n_vocab, n_units = len(meta['vocabulary']), meta['n_units']

    def array(name, shape):
        found = arrays.get(name)
        if found is None:
            raise CheckpointError(f'{path}: not a checkpoint of this program: no {name}')
        if found.shape != shape or found.dtype != 'f':
            raise CheckpointError(
                f'{path}: {name} is {found.dtype} {found.shape}, not float32 {shape}'
            )
        if not numpy.isfinite(found).all():
            raise CheckpointError(f'{path}: {name} is not finite')
        return found

    # The largest, before memory is taken for the model.
    array('model/l0/W', (n_vocab, n_units))
    for k in range(1, meta['n_layers'] + 1):
        array(f'model/l{k}_h/W', (CELLS[meta['cell']] * n_units, n_units))
    array(f'model/l{meta["n_layers"] + 1}/W', (n_vocab, n_units))
    model = RNN(n_vocab, n_units, meta['n_layers'], meta['cell'])
    for name, param in model.namedparams():
        param.array[...] = array('model' + name, param.shape)
    return model, meta


def _meta(path, arrays):
    """The meta of a checkpoint, complete; CheckpointError if it is not."""
    foreign = f'{path}: not a checkpoint of this program'
    try:
        meta = json.loads(arrays['meta'].tobytes())
        version = meta['format']
    except (KeyError, TypeError, ValueError, RecursionError):
        raise CheckpointError(f'{foreign} (no meta)') from None
    if version != FORMAT and type(version) is int:
        raise CheckpointError(
            f'{path}: format {version}, this program reads {FORMAT}; '
            'use the version that wrote it, or a newer one'
        )
    meta = {'n_layers': 2, 'cell': 'lstm', **meta}  # before they could be chosen
    fields = {'format': int, **FIELDS, **({'music': dict} if meta.get('kind') == 'music' else {})}
    for field, kind in fields.items():
        if (
            type(meta.get(field)) is not kind
            or field == 'kind'
            and meta[field] not in ('text', 'music')
        ):
            raise CheckpointError(f'{foreign} (no {field})')
    words = meta['vocabulary']
    if not words or not all(
        word and isinstance(word, str) and not re.search('[\ud800-\udfff]', word) for word in words
    ):
        raise CheckpointError(f'{foreign} (no words)')
    for field, right in (
        ('n_units', meta['n_units'] > 0),
        ('n_layers', meta['n_layers'] > 0),
        ('cell', meta['cell'] in CELLS),
    ):
        if not right:
            raise CheckpointError(f'{foreign} (no {field})')
    history = meta['history']
    if len(history) != meta['epoch'] or not all(
        isinstance(entry, dict)
        and entry.get('epoch') == n
        and 'main/loss' in entry
        and all(
            type(value) in (int, float) and abs(value) <= sys.float_info.max
            for value in entry.values()
        )
        for n, entry in enumerate(history, 1)
    ):
        raise CheckpointError(f'{foreign} (no history of {meta["epoch"]} epochs)')
    return meta


def _arrays(path, *prefixes):
    """The arrays of a .npz whose names begin so: dict of name to array.

    Whatever is wrong with the file becomes a CheckpointError.
    """
    damaged = f'{path}: not a checkpoint, or a damaged one'
    try:
        if not os.path.isfile(path) and not stat.S_ISDIR(
            os.stat(path).st_mode
        ):  # a pipe would be waited for
            raise CheckpointError(f'{path}: a pipe or a device, not a file')
        with terminal.opened(path) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if (
                any(
                    member.compress_type != zipfile.ZIP_STORED
                    or member.compress_size != member.file_size
                    for member in members
                )
                or sum(member.file_size for member in members) > os.fstat(file.fileno()).st_size
            ):
                raise CheckpointError(f'{damaged}: its arrays are packed, or larger than the file')
            return {
                member.filename.removesuffix('.npy'): _array(archive.read(member))
                for member in members
                if member.filename.startswith(prefixes)
            }
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f'{path}: no such file or folder') from None
    except OSError as error:
        raise CheckpointError(f'{path}: {error.strerror or error}') from None
    except (
        EOFError,
        MemoryError,
        NotImplementedError,
        OverflowError,
        RuntimeError,
        ValueError,
        zipfile.BadZipFile,
    ):
        raise CheckpointError(damaged) from None


def _array(data):
    """The array in the bytes of a .npy file; ValueError if it is not one of numbers."""
    header = _HEADER.match(data)
    if not header:
        raise ValueError
    dtype, fortran, shape = header.groups()
    shape = tuple(int(n) for n in shape.split(b',') if n.strip())
    order = 'F' if fortran == b'True' else 'C'
    return (
        numpy.frombuffer(data, dtype.decode(), offset=header.end())
        .reshape(shape, order=order)
        .copy(order)
    )


def kind_of(path):
    """What a checkpoint has learned, 'text' or 'music'; CheckpointError as from `load`."""
    return _meta(path, _arrays(path, 'meta'))['kind']


def runs(folder='result'):
    """The last.npz files (list of pathlib.Path) below a folder, the newest first, without what was moved to old-N."""
    found = [
        path
        for path in pathlib.Path(folder).rglob('last.npz')
        if not path.parent.name.startswith('old-')
    ]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
