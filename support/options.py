"""The options of train.py: the defaults, those that a run has saved, those that are given.

Later ones replace earlier ones, in one place: `merge`.
"""

import argparse
import os
import pathlib

from support import checkpoint
from support.source import name_of


def merge(defaults, given, folder, rank):
    """The options (argparse.Namespace) and, with --resume, the Checkpoint to go on from, or None.

    defaults: dict; given: dict, what stands on the command line; folder: run.Folder. The first
    process (rank 0) locks the folder before it reads a run that goes on there: no other training
    can change it then. CheckpointError if there is no such run, or a bad one.
    """
    saved = None
    if 'resume' in given:
        path = _path_to_resume(given)
        given = {'out': path.parent, **given}
        own = os.path.realpath(given['out']) == os.path.realpath(path.parent)
        if own and not rank and path.is_file():
            folder.lock(path.parent)
        saved = checkpoint.load(path, training=True)
        sources = saved.options.get('corpus') or saved.options.get('midi')
        if not sources or not saved.options.keys() <= defaults.keys():
            raise checkpoint.CheckpointError(f'{path}: its options are none of this program')
        # before anything is read or fetched that the old run names
        print(f'going on with {path} after epoch {saved.epoch}, which learned from', *sources)
        if folder.path:  # a kill may have come between the last checkpoint and its picture
            folder.open(path.parent, saved, rank)
    args = argparse.Namespace(**{**defaults, **(saved.options if saved else {}), **given})
    args.out = pathlib.Path(args.out or _default_out(vars(args)))
    return args, saved


def check(parser, fixed, args, given, saved, processes):
    """Refuses options that do not go together: a line on stderr, and exit code 2.

    fixed: names of options that cannot change when a run goes on; given: dict of what stands on
    the command line; saved: the Checkpoint to go on from, or None.
    """
    for name in fixed if saved else ():
        if name in given and given[name] != saved.options.get(name):
            old = f'{saved.options.get(name)} in {saved.path}'
            parser.error(f'--{name.replace("_", "-")} is {old} and cannot change now')
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
    if args.lr == 0:
        parser.error('--lr 0 learns nothing')
    if args.batchsize % processes:
        parser.error(f'--batchsize {args.batchsize} is not a multiple of {processes} processes')


def _default_out(options):
    """The folder (str) of a run: result/NAME of what it learns, by its options (dict)."""
    sources = options['corpus'] or options['midi'] or ['']
    return f'result/{name_of(sources[0])}'


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
            raise checkpoint.CheckpointError('no run below result/ to resume')
    return path / 'last.npz' if path.is_dir() else path
