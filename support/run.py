"""A run of train.py: its folder, its log, and how it is stopped.

    result/holmes/
        last.npz    the model and all that --resume needs
        best.npz    the model of the epoch with the lowest validation loss
        log.jsonl   a JSON object a line, one for each epoch, or part of a long one
        loss.png    the curve
        old-1/      the run that was here before, if there was one

Nothing here knows the network.
"""

import contextlib
import dataclasses
import errno
import itertools
import json
import signal
import sys
import warnings

import filelock
import matplotlib.figure

from support import checkpoint, terminal

SIGNALS = [s for s in signal.Signals if s.name in ('SIGINT', 'SIGTERM', 'SIGHUP')]


class Folder:
    """The folder of a run; once locked, it stays this process's until the `with` block ends.

    log: a list of a dict for each epoch or part, as in log.jsonl.
    """

    def __init__(self):
        self.path, self.log, self._lock = None, [], None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._lock:
            self._lock.release()

    def lock(self, path):
        """Makes the folder, if it is not there yet, and takes it for this process alone.

        path: pathlib.Path. CheckpointError if another training has it. The lock is the operating
        system's: it is gone with the process, however that ends.
        """
        path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path / '.lock', blocking=False)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise checkpoint.CheckpointError(
                f'{path}: another training is going on in this folder; --out takes another one'
            ) from None
        self.path, self._lock = path, lock
        for name in checkpoint.FILES:  # what a process that was killed has left
            terminal.beside(path / name).unlink(missing_ok=True)

    def open(self, path, saved, rank):
        """Makes the folder ready: for a new run, or for one that goes on from a Checkpoint `saved`.

        An older run that is in the way moves aside. A run that goes on in another folder than its
        own takes its log and best.npz along. path: pathlib.Path; only the process of rank 0 acts.
        """
        if rank:
            return
        best = None
        if not self.path:
            if saved and (saved.path.parent / 'best.npz').is_file():
                best = (saved.path.parent / 'best.npz').read_bytes()
            self.lock(path)
            self.clear()
        if saved:
            log = saved.path.with_name('log.jsonl')
            self.log = read_log(log, checkpoint.updates_of(saved))
        if best:
            with terminal.replacing(path / 'best.npz') as file:
                file.write(best)
        self.write_log()  # cannot be written? It is better to know now than after an epoch.
        if self.log:
            self.draw()

    def clear(self):
        """Makes room for a new run: an old one moves to old-1, old-2, ..."""
        files = [self.path / name for name in checkpoint.FILES if (self.path / name).exists()]
        if files:
            numbers = itertools.count(1)
            free = next(n for n in numbers if not (self.path / f'old-{n}').exists())
            aside = self.path / f'old-{free}'
            aside.mkdir()
            for file in files:
                file.rename(aside / file.name)
            print(f'the run that was in {self.path} is now in {aside}')

    def write_log(self):
        """Writes log.jsonl anew."""
        with terminal.replacing(self.path / 'log.jsonl') as file:
            file.writelines(json.dumps(entry).encode() + b'\n' for entry in self.log)

    def save(self, trained, optimizer, sums, entry, comm):
        """Writes the checkpoints of a training (Checkpoint), its log and curve.

        sums: (3,), see checkpoint.training_state; entry: the epoch or part that ends here, for the
        log (dict), or None inside of it. All processes of comm call it, the first one writes.
        OSError if it cannot; the old files stay whole then. FloatingPointError if a weight is
        no finite number: nothing is written.
        """
        trained.training = checkpoint.training_state(trained.model, optimizer, sums, comm)
        if comm.rank:
            return
        self.path.mkdir(parents=True, exist_ok=True)  # somebody may have tidied up
        if entry:  # the log first: what it has too much is cut when the run goes on
            self.log.append(entry)
            self.write_log()
            if trained.best_epoch == entry['epoch']:
                best = dataclasses.replace(trained, training={}, epoch=trained.best_epoch)
                checkpoint.save(self.path / 'best.npz', best)
        checkpoint.save(self.path / 'last.npz', trained)
        if entry:
            self.draw()

    @terminal.doing('drawing the curve')
    def draw(self):
        """Draws the losses of the log as loss.png."""
        figure = matplotlib.figure.Figure(layout='constrained')
        axes = figure.subplots()
        for name in ('main/loss', 'validation/main/loss'):
            points = [(entry['epoch'], entry[name]) for entry in self.log if name in entry]
            if points:
                axes.plot(*zip(*points), marker='.', label=name)
        axes.set_xlabel('epoch')
        axes.set_ylabel('nats per word')
        axes.grid()
        axes.legend(loc='upper right')  # to find the best place may take long, with a warning
        with terminal.replacing(self.path / 'loss.png') as file:
            figure.savefig(file, format='png')


def read_log(path, updates):
    """The entries (list of dict) of a log.jsonl up to an update, as far as it is whole.

    A process that was killed may have logged an epoch that no checkpoint holds.
    """
    entries = []
    with contextlib.suppress(KeyError, OSError, RecursionError, TypeError, ValueError):
        for line in path.read_text(encoding='utf-8').splitlines():
            entry = json.loads(line)
            if entry['iteration'] > updates or any(
                type(value) not in ((str,) if name == 'sample' else (int, float))
                for name, value in entry.items()
            ):
                break
            entries.append(entry)
    return entries


class Stop:
    """Ctrl-C, SIGTERM or a closed terminal: the loop finishes its window and saves.

    Inside `with Stop() as stop`, stop.signal is the number of the signal that came, or 0.
    """

    def __init__(self):
        self.signal = 0

    def __enter__(self):
        self._before = {
            number: signal.signal(number, self._on_signal)
            for number in SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN  # as for a job in the background
        }
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number, frame):
        if self.signal:  # it is the second one
            if number in (signal.SIGINT, signal.SIGTERM):
                raise KeyboardInterrupt
            return  # when a terminal is closed, both the system and the shell say so
        self.signal = number
        print('\nfinishing this window and saving (once more: stop at once)', file=sys.stderr)


@contextlib.contextmanager
def explained(args):
    """Inside, errors of a training get advice: where is the last checkpoint, and what may help?

    args: options with `out` (pathlib.Path) and `lr`, as they are when the error comes.
    """
    last = args.out / 'last.npz'
    try:
        with no_warnings():  # Progress says it, in one line
            yield
    except OSError as error:
        error.filename = error.filename or args.out
        if error.errno == errno.ENOSPC and last.exists():
            error.strerror += f'; make room, then --resume {args.out} goes on'
        raise
    except MemoryError as error:
        raise MemoryError(f'{error}; a smaller --batchsize or --unit takes less') from None
    except FloatingPointError as error:
        advice = 'nothing was saved yet; a smaller --lr may help'
        if last.exists():
            advice = (
                f'--resume {args.out} goes on from the save before, --lr {args.lr / 4:g} may help'
            )
        raise FloatingPointError(f'{error}; {advice}') from None
    except KeyboardInterrupt:
        saved = f'--resume goes on from the last save in {args.out}'
        print(
            'stopped at once;', saved if last.exists() else 'nothing was saved yet', file=sys.stderr
        )
        raise
    except Exception as error:
        if not type(error).__module__.startswith('cupy'):  # cupy_backends, too
            raise
        reason = f'the GPU failed: {str(error).strip()}'
        if last.exists():
            reason += f'; --resume {args.out} goes on from the last save'
        raise OSError(errno.EIO, reason, args.out) from None


@contextlib.contextmanager
def no_warnings():
    """Inside, NumPy says nothing of numbers out of bounds, in no thread."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', '.* encountered in ', RuntimeWarning)
        yield
