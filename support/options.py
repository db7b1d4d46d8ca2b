"""The options of train.py: the defaults, those that a run has saved, those that are given.

Later ones replace earlier ones, in one place: `merge`. A run that begins with another one's
model (--init-from) takes over what the words of that model need.
"""

import argparse
import contextlib
import io
import os
import pathlib

from read_midi import EVENTS
from support import checkpoint
from support.source import expanded, name_of

SOURCES = 'corpus', 'midi', 'valid', 'test'  # options that take names of files


def merge(parser, given, fixed, defaults, folder, comm):
    """(the options (argparse.Namespace), the Checkpoint of --resume, that of --init-from or None).

    parser: an argparse.ArgumentParser; given: what it found on the command line (dict), and no
    more; fixed: names of options that cannot change when a run goes on; defaults: dict; folder:
    run.Folder. The first process of comm locks the folder before it reads a run that goes on there:
    no other training can change it then.
    CheckpointError if there is no such run, or a bad one; SystemExit of options that do not go
    together, see `_check`.
    """
    given = given | {name: expanded(given[name]) for name in SOURCES if name in given}
    saved = initial = None
    inherited = {}  # from a checkpoint
    if 'resume' in given and 'init_from' in given:
        parser.error('--resume goes on with a run, --init-from begins a new one: one of the two')
    if 'init_from' in given:
        initial = checkpoint.load(_checkpoint_in(given['init_from']))
        inherited = _options_of_model(initial)
        fixed = inherited.keys()
    elif 'resume' in given:
        path = _path_to_resume(given)
        given = {'out': path.parent, **given}
        own = os.path.realpath(given['out']) == os.path.realpath(path.parent)
        if own and not comm.rank and path.is_file():
            folder.lock(path.parent)
        saved = checkpoint.load(path, training=True)
        saved.options = _parsed(parser, defaults, saved)
        sources = saved.options.get('corpus') or saved.options.get('midi')
        # before anything is read or fetched that the old run names
        print(f'going on with {path} after epoch {saved.epoch}, which learned from', *sources)
        if folder.path:  # a kill may have come between the last checkpoint and its picture
            folder.open(path.parent, saved, comm.rank)
        inherited = saved.options
    for name in fixed if inherited else ():
        if name in given and given[name] != inherited.get(name):
            old = f'{inherited.get(name)} in {(saved or initial).path}'
            option = f'--{name.replace("_", "-")}'
            advice = 'without --resume a new run begins' if saved else 'leave it out'
            parser.error(f'{option} is {old} and cannot change now; {advice}')
    args = argparse.Namespace(**{**defaults, **inherited, **given})
    _check(parser, args, given, saved, comm.size)
    kind = 'music' if args.midi else 'text'
    if initial and initial.kind != kind:
        parser.error(f'{initial.path} is a model of {initial.kind}, not of {kind}')
    args.out = pathlib.Path(args.out or _default_out(vars(args)))
    for path in (args.out, *args.out.parents):
        if path.is_file():
            parser.error(f'--out {args.out}: {path} is a file; a run is kept in a folder')
    return args, saved, initial


def _parsed(parser, defaults, saved):
    """The options (dict) of a Checkpoint, as if they were given; CheckpointError if some cannot be.

    A stranger's checkpoint may hold anything.
    """
    argv, files, known = [], {}, saved.options.get('known', 0)
    if saved.options.get('lr_decay') == 1:  # off; runs from before --schedule have it
        del saved.options['lr_decay']
    for name, value in saved.options.items():
        if name == 'known':  # it is never given
            continue
        option = '--' + name.replace('_', '-')
        if type(value) is bool:
            argv.append(option if value else option.replace('--', '--no-', 1))
        elif name in SOURCES and type(value) is list and {*map(type, value)} == {str}:
            files[name] = value  # a name may begin with a dash, as no argument of a list can
        elif type(value) is list:
            argv += [option, *map(str, value)]
        elif value is not None or defaults.get(name) is not None:
            argv.append(f'{option}={value}')
    reason = io.StringIO()
    try:
        with contextlib.redirect_stderr(reason), contextlib.redirect_stdout(reason):
            parsed = {**defaults, **vars(parser.parse_args(argv)), **files}
    except SystemExit:
        reason = reason.getvalue().strip().removeprefix(f'{parser.prog}: ')
        raise checkpoint.CheckpointError(f'{saved.path}: impossible options: {reason}') from None
    parsed['known'] = known
    is_known = type(known) is int and 0 <= known <= len(saved.vocabulary)
    is_named = bool(parsed['corpus'] or parsed['midi'])
    if not (is_known and is_named and saved.options.keys() <= parsed.keys()):
        raise checkpoint.CheckpointError(f'{saved.path}: its options are none of this program')
    return {name: parsed[name] for name in saved.options}


def _options_of_model(saved):
    """The options (dict) that a new run takes over from a Checkpoint: its words need them."""
    model, options = saved.model, saved.options
    taken = {'unit': model.n_units, 'layer': model.n_layers, 'cell': model.cell}
    taken['known'] = len(saved.vocabulary)
    if saved.kind == 'text':
        is_char = saved.tokenizer == 'char'
        tokenizer = None if is_char else saved.tokenizer
        return {**taken, 'level': 'char' if is_char else 'word', 'tokenizer': tokenizer}
    events, grid = options.get('events'), options.get('grid')  # a stranger's, perhaps
    taken['events'] = events if events in (*EVENTS,) else 'notes'
    return {**taken, 'grid': grid if type(grid) is int and 0 < grid <= 960 else 0}


def _check(parser, args, given, saved, processes):
    """Refuses options that do not go together: a line on stderr, and exit code 2.

    given: dict of what stands on the command line; saved: the Checkpoint of --resume, or None.
    """
    if not args.corpus and not args.midi:
        parser.error('what shall it learn? for instance --corpus holmes.txt or --midi track1.mid')
    if args.corpus and args.midi:
        parser.error('--corpus or --midi: one of the two' + (' is in that run' if saved else ''))
    for name in ('corpus', 'valid', 'test'):
        if '' in (getattr(args, name) or ()):
            parser.error(f'--{name} is empty')
    of_texts = ('level', 'tokenizer', 'encoding', 'errors')
    of_music = ('track', 'channel', 'events', 'grid', 'transpose')
    for name in of_music if args.corpus else of_texts:
        if name in given:
            parser.error(f'--{name} is for --{"midi" if args.corpus else "corpus"}')
    if args.tokenizer and args.level == 'char':
        parser.error('--level char takes single characters, --tokenizer is for words')
    if args.valid and 'val_frac' in given:
        parser.error('--valid or --val-frac: one of the two')
    if args.lr == 0:
        parser.error('--lr 0 learns nothing')
    if args.batchsize % processes:
        near = max(args.batchsize // processes, 1) * processes
        wrong = f'--batchsize {args.batchsize} is not a multiple of {processes} processes'
        parser.error(f'{wrong}; {near} is one')


def _default_out(options):
    """The folder (str) of a run: result/NAME of what it learns, by its options (dict)."""
    return f'result/{name_of((options["corpus"] or options["midi"])[0])}'


def _path_to_resume(given):
    """The last.npz (pathlib.Path) that --resume means, by the options (dict) that are given."""
    if given['resume']:
        path = pathlib.Path(given['resume'])
    elif 'out' in given:
        path = pathlib.Path(given['out'])
    elif 'corpus' in given or 'midi' in given:
        path = pathlib.Path(_default_out({'corpus': None, 'midi': None, **given}))
    else:
        path = next(iter(checkpoint.runs()), None)
        if path is None:
            raise checkpoint.CheckpointError(
                'no run below result/ to resume; --resume PATH finds others'
            )
    return _checkpoint_in(path)


def _checkpoint_in(path):
    """The path (pathlib.Path) of a checkpoint that is given as its run's folder or as a file."""
    path = pathlib.Path(path)
    return path / 'last.npz' if path.is_dir() else path
