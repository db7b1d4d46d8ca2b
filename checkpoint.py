"""One file with everything a trained model needs: weights, vocabulary, options, history.

A checkpoint is an uncompressed .npz (a zip of .npy arrays, numpy.load reads it):

    meta        uint8, UTF-8 JSON: format and FIELDS
    model/...   float32 weights under Chainer's names (model/l1_x/W) and layout
    trainer/... Adam's moments, LSTM state, random state, position: for --resume

No Python object is ever pickled or unpickled, so a file from a stranger is data
and nothing else. It loads on a CPU, whatever device trained it.
"""
import contextlib
import json
import pathlib
import warnings
import zipfile
import zlib

import modern_chainer  # noqa: F401  prepares chainer's import

import numpy
from chainer import serializers

import command
from rnn import RNN

FORMAT = 1
FIELDS = {'kind': str, 'n_units': int, 'vocabulary': list, 'cut': str, 'text_sum': int,
          'options': dict, 'epoch': int, 'history': list}  # what meta must hold; music has 'music' too


class CheckpointError(ValueError):
    """A file is no checkpoint that this version can read; the message is one line."""


def save(path, model, meta, trainer=None):
    """Writes a checkpoint.

    model: RNN on any device; meta: dict that JSON can hold, with all of FIELDS but
    n_units, 'vocabulary' a list of n_vocab str; trainer: a chainer.training.Trainer
    whose state makes an exact resumption possible, or None. OSError if it cannot be
    written.
    """
    meta = {'format': FORMAT, 'n_units': model.n_units, **meta}
    target = {'meta': numpy.frombuffer(json.dumps(meta).encode(), 'u1')}
    serializers.DictionarySerializer(target, 'model/').save(model)
    if trainer is not None:
        serializers.DictionarySerializer(target, 'trainer/').save(trainer)
    for name, array in target.items():
        if array.dtype.hasobject:  # would be pickled
            raise TypeError(f'{name} is not a plain array')
    with command.replacing(path) as file:
        numpy.savez(file, **target)


def load(path):
    """Reads a checkpoint: (RNN on the CPU, meta dict).

    CheckpointError if the file is missing, damaged, foreign, of a newer format
    or does not fit together.
    """
    with _opened(path) as npz:
        meta = _meta(path, npz)
        n_vocab, n_units = len(meta['vocabulary']), meta['n_units']
        expected = {'model/l0/W': (n_vocab, n_units), 'model/l3/W': (n_vocab, n_units)}
        for name, shape in expected.items():  # before memory is taken for the model
            if npz[name].shape != shape:
                raise CheckpointError(f'{path}: {name} is {npz[name].shape}, not {shape}')
        model = RNN(n_vocab, n_units)
        for name, param in model.namedparams():
            array = npz['model' + name]
            if array.shape != param.shape or array.dtype != param.dtype:
                raise CheckpointError(f'{path}: model{name} is {array.dtype} {array.shape}, '
                                      f'not {param.dtype} {param.shape}')
            param.array[...] = array
    return model, meta


def _meta(path, npz):
    """The meta of a checkpoint, complete; CheckpointError if it is not."""
    try:
        meta = json.loads(npz['meta'].tobytes())
        version = meta['format']
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f'{path}: not a checkpoint of this program ({error})') from None
    if version != FORMAT:
        raise CheckpointError(f'{path}: format {version}, this program reads {FORMAT}; '
                              'use the version that wrote it, or a newer one')
    fields = {**FIELDS, 'music': dict} if meta.get('kind') == 'music' else FIELDS
    for field, kind in fields.items():
        if type(meta.get(field)) is not kind or field == 'kind' and meta[field] not in ('text', 'music'):
            raise CheckpointError(f'{path}: not a checkpoint of this program (no {field})')
    if not all(word and isinstance(word, str) for word in meta['vocabulary']):
        raise CheckpointError(f'{path}: not a checkpoint of this program (no words)')
    return meta


def resume(path, trainer):
    """Puts the state that `save` took from a trainer back into an equal one.

    CheckpointError if the file holds none (a best.npz) or it does not fit.
    """
    with _opened(path) as npz:
        if not any(name.startswith('trainer/') for name in npz):
            raise CheckpointError(f'{path}: holds a model but no training state; '
                                  'resume from last.npz')
        try:
            with warnings.catch_warnings():  # an extension that the old run did without
                warnings.filterwarnings('ignore', 'The previous value of')
                serializers.NpzDeserializer(npz, 'trainer/').load(trainer)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f'{path}: its training state does not fit: {error}') from None


@contextlib.contextmanager
def _opened(path):
    """The arrays of a .npz; whatever is wrong with the file becomes a CheckpointError."""
    try:
        with open(path, 'rb') as file:
            npz = numpy.load(file, allow_pickle=False)
            if not isinstance(npz, numpy.lib.npyio.NpzFile):
                raise CheckpointError(f'{path}: not a checkpoint, but a single array')
            with npz:
                yield npz
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f'{path}: no such file or folder') from None
    except KeyError as error:
        raise CheckpointError(f'{path}: not a checkpoint of this program: {error.args[0]}') from None
    except ValueError:  # NumPy's message advises to unpickle it
        raise CheckpointError(f'{path}: not a checkpoint, or a damaged one') from None
    except (OSError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f'{path}: not a checkpoint, or a damaged one: {error}') from None


def kind_of(path):
    """What a checkpoint has learned, 'text' or 'music'; CheckpointError as from `load`."""
    with _opened(path) as npz:
        return _meta(path, npz)['kind']


def runs(folder='result'):
    """The last.npz files (list of pathlib.Path) below a folder, the newest first."""
    found = pathlib.Path(folder).rglob('last.npz')
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
