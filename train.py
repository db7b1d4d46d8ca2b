"""Trains the article's network on a text, or on music.

    python train.py --corpus holmes.txt
    python train.py --gpu 0 --corpus holmes.txt
    python train.py --corpus https://www.aozora.gr.jp/cards/000009/files/55881_ruby_50043.zip
    python train.py --corpus holmes.txt --resume --epoch 80
    python train.py --midi track1.mid
    python train.py --midi FOLDER --transpose -5 6
    python train.py --corpus hello.txt --level char --cell rnn --layer 1 --dropout 0
    python train.py --corpus train.txt --valid valid.txt --test test.txt --lr-decay 0.5
    python train.py --corpus FOLDER --vocab-size 20000
    mpiexec -n 4 python train.py --mpi --corpus holmes.txt

How the text becomes parallel streams, batchsize 3 and bproplen 4 for instance:

    words      a b c d e f g h i j k l m n o p q r s t u v
    stream 0   a b c d|e f g      Each column of a window is one step: the network
    stream 1   h i j k|l m n      reads a h o and shall say b i p. A window is one
    stream 2   o p q r|s t u      update. Streams run on from window to window with
               window 1|window 2  their LSTM state, until the epoch ends.
"""

import argparse
import contextlib
import dataclasses
import io
import itertools
import json
import math
import pathlib
import signal
import sys
import time
import warnings
import zlib

import read_midi
from support import terminal

if __name__ == '__main__':
    terminal.quiet_imports()

from support import modern_chainer  # noqa: F401  prepares chainer's import

import chainer
import filelock
import matplotlib.figure
import numpy
from chainer import training
from chainer.training import extensions, triggers

from support import checkpoint
from support import text as corpus
from support import fused
from support import parallel
from support import music
from support.terminal import number
from generate import generate, positions, use_device, written
from rnn import CELLS, RNN

ENCODED = 'result/encoded'  # where the ids of folders of texts are kept
FILES = ('last.npz', 'best.npz', 'log', 'loss.png')  # what a run leaves in --out
OPTIMIZERS = {  # with what they call their step size, and a good one
    'adam': (fused.Adam, 'alpha', 0.002),
    'rmsprop': (chainer.optimizers.RMSprop, 'lr', 0.002),
    'sgd': (chainer.optimizers.SGD, 'lr', 1.0),
}
NOT_SAVED = ('gpu', 'mpi', 'out', 'resume', 'test')  # options of a start, not of a run
SIGNALS = [
    getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)
]  # Windows lacks the last
AUTOSAVE = 600  # seconds between checkpoints inside a long epoch
JUMP_WORDS = 500  # the least words whose loss is compared with that before
TIMES = (
    'elapsed_time',
    'tokens/s',
)  # in the log, but not in a checkpoint: equal runs write equal ones


class Updater(training.updaters.StandardUpdater):
    """One update: a window forwards, backwards, clip, a step of the optimizer. The article's loop.

    optimizer: set up for an RNN; step_size: the name (str) of its step size. forward: `stepwise` or
    fused.forward, which gives the same in less time. Reports, at the end of an epoch, the means of
    loss (nats per word) and accuracy over it, and tokens/s, of the streams of all processes.
    FloatingPointError if the loss is no number any more.
    """

    def __init__(self, streams, optimizer, step_size, dropout_ratio, forward):
        model = optimizer.target
        super().__init__(streams, optimizer, device=model.device)
        self.step_size, self.dropout_ratio, self.forward = step_size, dropout_ratio, forward
        self.comm = streams.comm  # the processes
        model.initialize_state(streams.rows)
        self.state = {}  # of all streams, on the CPU: what `gather` found, or was loaded
        self.sums = numpy.zeros(3)  # of this epoch: loss, accuracy, steps
        self.words = self.seconds = 0  # of this epoch, since the program started
        self.recent = numpy.zeros(2)  # nats and words since `watch` looked for a jump
        self.usual = 0.0  # nats per word, about, that it saw before

    @property
    def lr(self):
        """The optimizer's step size (float); --lr-decay changes it."""
        return getattr(self.get_optimizer('main'), self.step_size)

    @lr.setter
    def lr(self, value):
        setattr(self.get_optimizer('main'), self.step_size, value)

    def update_core(self):
        start = time.perf_counter()
        streams = self.get_iterator('main')
        optimizer = self.get_optimizer('main')
        model = optimizer.target

        if streams.position == 0:  # the streams start again: so does the memory
            model.initialize_state(streams.rows)
        x, t = self.device.send(streams.next())
        accum_loss, accum_accuracy = self.forward(model, x, t, self.dropout_ratio)
        if streams.weight != 1:  # the mean over all streams is that over the processes, weighted
            accum_loss, accum_accuracy = (
                accum_loss * streams.weight,
                accum_accuracy * streams.weight,
            )
        model.cleargrads()
        accum_loss.backward()
        accum_loss.unchain_backward()  # the next window keeps the state, not its history
        self.comm.multi_node_mean_grad(model)
        optimizer.update()  # clips the gradients, then makes a step

        # Here, so that a GPU has got all of its work before it is asked for a number.
        loss, accuracy = parallel.mean(self.comm, [float(accum_loss.array), float(accum_accuracy)])
        words = len(x) * streams.batchsize
        self.watch(loss / len(x), words)
        self.sums += loss, accuracy, len(x)
        self.words += words
        self.seconds += time.perf_counter() - start
        if streams.is_new_epoch:
            loss, accuracy, steps = self.sums
            chainer.report({'loss': loss / steps, 'accuracy': accuracy / steps}, model)
            chainer.report({'tokens/s': self.words / self.seconds})
            self.sums[:] = self.words = self.seconds = 0

    def watch(self, loss, words):
        """Stops at a loss (nats per word, of a window) that is no number, warns of one that jumped.

        A jump is twice the usual and a nat more. Some hundred words differ less, a single line may not.
        """
        step = f'step {self.iteration + 1} (epoch {self.epoch_detail:.2f})'
        if not math.isfinite(loss):
            raise FloatingPointError(f'the loss is {loss} at {step}')
        self.recent += loss * words, words
        nats, words = self.recent
        if words < JUMP_WORDS:
            return
        self.recent[:] = 0
        loss = nats / words
        if not self.usual:
            self.usual = loss
        elif loss > max(2 * self.usual, self.usual + 1):
            print(
                f'the loss jumped from {self.usual:.3g} to {loss:.3g} nats per word at {step}; if it stays '
                'there, a smaller --lr helps',
                file=sys.stderr,
            )
            self.usual = loss  # and warns again only if it goes on to rise
        self.usual += (loss - self.usual) / 20

    def gather(self):
        """Collects the state of the streams of all processes, which all have to call this, for `serialize`."""
        model = self.get_optimizer('main').target
        self.state = {
            name: numpy.concatenate(
                self.comm.mpi_comm.allgather(chainer.backends.cuda.to_cpu(variable.array))
            )
            for name, variable in model.state.items()
        }

    def serialize(self, serializer):
        """All that the next window depends on, except the weights: `checkpoint` has them. After `gather`.

        ValueError if what was loaded cannot be the state of such a run.
        """
        streams, optimizer = self.get_iterator('main'), self.get_optimizer('main')
        model = optimizer.target
        for name in ('iteration', 'sums', 'recent', 'usual', 'lr'):
            setattr(self, name, serializer(name, getattr(self, name)))
        streams.serialize(serializer['streams'])
        optimizer.serialize(serializer['optimizer'])
        for name, variable in model.state.items():
            state = self.state.get(name, numpy.empty((streams.batchsize, model.n_units), 'f'))
            self.state[name] = state = serializer('state/' + name, state)
            if isinstance(serializer, chainer.Deserializer):
                variable.array = self.device.send(state[streams.part])
        _, keys, position, *_ = numpy.random.get_state()  # dropout's random numbers
        keys, position = serializer('random/keys', keys), serializer('random/position', position)
        if isinstance(serializer, chainer.Deserializer):
            if self.iteration != streams.iteration:
                raise ValueError(
                    f'step {self.iteration}, but epoch {streams.epoch} and word {streams.position}'
                )
            if self.lr < 0:
                raise ValueError(f'step size {self.lr}')
            for name, param in model.namedparams():
                rule = param.update_rule
                if (
                    rule.t != self.iteration
                    or optimizer.t != self.iteration
                    or any(
                        (array.shape, array.dtype) != (param.shape, param.dtype)
                        for array in (rule.state or {}).values()
                    )
                ):
                    raise ValueError(f"the optimizer's numbers of {name}")
            if not 0 <= position <= len(keys):  # NumPy would read what lies behind them
                raise ValueError(f'random number {position}')
            numpy.random.set_state(('MT19937', keys, position))
            if self.comm.rank:  # that state is the first process's; others are sown from it
                numpy.random.seed([numpy.random.randint(2**32, dtype='u4'), self.comm.rank])
            if model.xp is not numpy:  # CuPy's generator cannot be saved, only sown anew
                model.xp.random.seed(self.iteration + (self.comm.rank << 32))


def stepwise(model, x, t, dropout_ratio):
    """Runs a window, x and t (T, B) int32 ids, step by step as the article does.

    Returns the sums over the T steps of the loss, a scalar Variable (nats), and of the accuracy.
    """
    accum_loss = accum_accuracy = 0
    for x_step, t_step in zip(x, t):
        loss, accuracy = model.forward(x_step, t_step, dropout_ratio)
        accum_loss += loss
        accum_accuracy += accuracy.array
    return accum_loss, accum_accuracy


class Streams(chainer.dataset.Iterator):
    """Cuts ids (N,) int32, which may lie in a file (numpy.memmap), into parallel streams and yields windows.

    Every window is an array (2, T, rows), x and t, T = bproplen or, at the
    end of an epoch, less; rows are those of the batchsize streams that are the part of this
    process of comm. With repeat=False one epoch is all.
    """

    def __init__(self, ids, batchsize, bproplen, repeat=True, comm=parallel.Alone()):
        self.ids, self.batchsize, self.bproplen, self.repeat = ids, batchsize, bproplen, repeat
        self.length = (len(ids) - 1) // batchsize
        self.size = self.length * batchsize
        self.comm, self.part = comm, parallel.share(comm, batchsize)
        self.rows = self.part.stop - self.part.start
        self.weight = self.rows * comm.size / batchsize
        self.reset()

    def reset(self):
        self.epoch = self.position = 0
        self.is_new_epoch = False

    def __next__(self):
        if self.epoch and not self.repeat:
            raise StopIteration
        steps = min(self.bproplen, self.length - self.position)
        words = numpy.empty((self.rows, steps + 1), 'i')
        for row, stream in zip(words, range(self.part.start, self.part.stop)):
            start = stream * self.length + self.position
            row[:] = self.ids[start : start + steps + 1]
        window = numpy.stack([words[:, :-1].T, words[:, 1:].T])
        self.position += self.bproplen
        self.is_new_epoch = self.position >= self.length
        if self.is_new_epoch:
            self.epoch, self.position = self.epoch + 1, 0
        return window

    next = __next__

    @property
    def epoch_detail(self):
        return self.epoch + self.position / self.length

    @property
    def previous_epoch_detail(self):
        return max(0.0, self.epoch_detail - self.bproplen / self.length)

    @property
    def iteration(self):
        """How many windows were read."""
        return self.epoch * -(-self.length // self.bproplen) + self.position // self.bproplen

    def serialize(self, serializer):
        """ValueError if what was loaded cannot be where such streams stand."""
        for name in ('epoch', 'position', 'is_new_epoch'):
            setattr(self, name, serializer(name, getattr(self, name)))
        if (
            self.epoch < 0
            or self.position not in range(0, self.length, self.bproplen)
            or self.is_new_epoch != (self.epoch > 0 and self.position == 0)
        ):
            raise ValueError(f'epoch {self.epoch}, word {self.position} of {self.length}')


def parse(argv):
    """The options (argparse.Namespace) and, with --resume, (model, meta, state, path, saved_at) of the old run.

    A resumed run takes its options from the checkpoint; those given again replace them.
    """
    parser = argparse.ArgumentParser(
        prog='train.py',
        description="Trains the article's network on a text or on music.",
        epilog='Options of a resumed run come from its checkpoint, except those given anew.',
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        '--corpus',
        metavar='SOURCE',
        help='text to learn: a file, a folder of .txt, a .zip or an http(s) '
        'address; a bare name is also looked up in data/',
    )
    source.add_argument(
        '--midi',
        metavar='FILE',
        nargs='+',
        help='music to learn: .mid files or folders of them; a bare name is '
        'also looked up in data/',
    )
    parser.add_argument(
        '--gpu',
        type=int,
        default=-1,
        metavar='ID',
        help='GPU to use (default: -1, the CPU); with --mpi that of the first process of a machine, '
        'the second takes the next',
    )
    parser.add_argument(
        '--mpi',
        action='store_true',
        help='train in all processes that mpiexec has started, each with some of the streams',
    )
    # The figures below are best validation perplexities on the article's book, 60,746 tokens,
    # with --stepwise; other random numbers give others, by some units.
    # After 40 its words are well known, the article's "well converged": training perplexity 16.
    parser.add_argument(
        '--epoch',
        '-e',
        type=number(int, 1),
        default=40,
        metavar='N',
        help='times to read the text (default: 40)',
    )
    # 280 with 256, 297 with 128.
    parser.add_argument(
        '--unit',
        '-u',
        type=number(int, 1),
        default=256,
        metavar='N',
        help='width of the embedding and of all layers (default: 256)',
    )
    # The article's two; it wished for more.
    parser.add_argument(
        '--layer',
        type=number(int, 1, 99),
        default=2,
        metavar='N',
        help='recurrent layers, each above the other (default: 2)',
    )
    parser.add_argument(
        '--cell',
        choices=CELLS,
        default='lstm',
        help="what the layers are: LSTMs, or, in the article's slow loop, GRUs or the plain "
        'h = tanh(W_hh h + W_xh x) (default: lstm)',
    )
    # 20 and 35 are those of Zaremba et al. 2014 and of Chainer's ptb example. 50 streams save a
    # quarter of the time of an epoch, but learn less in it: 291 after six against 280 after four.
    parser.add_argument(
        '--batchsize',
        '-b',
        type=number(int, 1),
        default=20,
        metavar='B',
        help='minibatch: parallel streams; more are faster, fewer learn more in an epoch '
        '(default: 20)',
    )
    parser.add_argument(
        '--bproplen',
        '-l',
        type=number(int, 1),
        default=35,
        metavar='T',
        help='words of a window, how far errors flow back (truncated BPTT) (default: 35)',
    )
    # The article's. Less validates better (249 with 0.3, 228 with 0.2, 211 with none), but such
    # models stumble over a start word that they read with a fresh state, and that is how we write.
    parser.add_argument(
        '--dropout',
        type=number(float, 0, 0.99),
        default=0.5,
        metavar='P',
        help='dropout: share of the projections left out while training (default: 0.5)',
    )
    # As in Chainer's ptb example; it bounds the gradient of the loss summed over a window.
    parser.add_argument(
        '--gradclip',
        '-c',
        type=number(float, 0),
        default=5.0,
        metavar='NORM',
        help='gradient clipping: longest gradient, by its global norm (default: 5)',
    )
    # The article's, and that of char-rnn, and that of Zaremba et al. 2014.
    parser.add_argument(
        '--optimizer',
        choices=OPTIMIZERS,
        default='adam',
        help='what makes a step of a gradient (default: adam)',
    )
    # Of Adam, 280 with 0.002 after four epochs, 282 with 0.001 after five, 303 with 0.004. char-rnn has
    # 0.002 for RMSprop; Zaremba et al. 2014 and Chainer's ptb example 1 for SGD, with loss and clipping as here.
    parser.add_argument(
        '--lr',
        type=number(float, 0),
        metavar='A',
        help='step size of the optimizer (default: 0.002; sgd: 1)',
    )
    # For --level char on a megabyte, where it is what regularises: 1.44 nats instead of 1.48, see the README.
    parser.add_argument(
        '--weight-decay',
        type=number(float, 0),
        default=0.0,
        metavar='R',
        help='after each step, weights lose the share R times the step size (default: 0)',
    )
    parser.add_argument(
        '--lr-decay',
        type=number(float, 0, 1),
        default=1.0,
        metavar='F',
        help='factor of the step size after each epoch without better validation '
        '(default: 1, it stays)',
    )
    # Enough words for a steady figure, few enough not to be missed in training.
    parser.add_argument(
        '--val-frac',
        type=number(float, 0, 0.9),
        default=0.05,
        metavar='F',
        help='last part of the text, kept for validation (default: 0.05)',
    )
    parser.add_argument(
        '--valid', metavar='SOURCE', help='text, or music, for validation, instead of the last part'
    )
    parser.add_argument(
        '--test',
        metavar='SOURCE',
        help='text, or music, to try the trained model on: prints loss, perplexity and, of a text, '
        'bits per character; with --resume and no epochs left, alone',
    )
    # Off: the article wants a model that knows its text; best.npz keeps the other one.
    parser.add_argument(
        '--patience',
        type=number(int, 0),
        default=0,
        metavar='N',
        help='stop after N epochs without better validation (default: 0, never)',
    )
    parser.add_argument(
        '--level',
        choices=('word', 'char'),
        default='word',
        help="what a word is: MeCab's or between spaces, or one character (default: word)",
    )
    # 1: a small book can spare no word, and <unk> is never written.
    parser.add_argument(
        '--min-count',
        type=number(int, 1),
        default=1,
        metavar='N',
        help='words that occur less often become <unk> (default: 1)',
    )
    # 0: all. The output layer has one row for each, so that very many are slow and take memory.
    parser.add_argument(
        '--vocab-size',
        type=number(int, 0),
        default=0,
        metavar='N',
        help='the N most frequent words, others become <unk> (default: 0, all)',
    )
    # One voice is what the article learnt, and the one with most notes is seldom a bad one.
    parser.add_argument(
        '--track',
        type=read_midi.track_option,
        metavar='N',
        help='track to learn of each MIDI file, counted from 0, or all, merged '
        '(default: the one with most notes)',
    )
    parser.add_argument(
        '--events',
        choices=read_midi.EVENTS,
        help='what becomes a word: notes, or performance, which also has programs, '
        'controllers, pedals and pitch bends (default: notes)',
    )
    parser.add_argument(
        '--transpose',
        type=number(int, -127, 127),
        nargs=2,
        metavar=('A', 'B'),
        help='learn the music also transposed by A to B semitones; an epoch takes '
        'as many times longer',
    )
    parser.add_argument(
        '--stepwise',
        action=argparse.BooleanOptionalAction,
        default=False,
        help="the article's loop, word by word: slower, with other random numbers for "
        'dropout (default: off)',
    )
    parser.add_argument('--encoding', help='encoding of the text (default: UTF-8, else Shift_JIS)')
    # Fixed, so that two readers who compare notes see the same numbers.
    parser.add_argument(
        '--seed',
        type=number(int, 0, 2**32 - 1),
        default=0,
        metavar='N',
        help='same seed, same machine, same result (default: 0)',
    )
    parser.add_argument(
        '--sample-every',
        type=number(int, 0),
        default=5,
        metavar='N',
        help="epochs between samples of the model's writing (default: 5; 0: none)",
    )
    parser.add_argument(
        '--out',
        '-o',
        metavar='FOLDER',
        help='where the run is kept (default: result/NAME of the corpus)',
    )
    parser.add_argument(
        '--resume',
        '-r',
        nargs='?',
        const='',
        metavar='PATH',
        help='go on with a run: its folder or last.npz '
        '(default: the one in --out or of --corpus, else the newest)',
    )
    args = parser.parse_args(argv)
    if args.resume is None:
        if not args.corpus and not args.midi:
            parser.error(
                'what shall it learn? for instance --corpus holmes.txt or --midi track1.mid'
            )
        check(parser, args)
        args.out = default_out(args)
        return args, None

    path = pathlib.Path(args.resume) if args.resume else old_run(args)
    if path.is_dir():
        path = path / 'last.npz'
    saved_at = path.stat().st_mtime_ns if path.exists() else None
    model, meta, state = checkpoint.load_run(path)
    sources = {name: meta['options'].get(name) for name in ('corpus', 'midi', 'transpose', 'valid')}
    if not sane(**sources):
        raise checkpoint.CheckpointError(f'{path}: it does not say what it learned')
    parser.set_defaults(**sources)
    saved = [
        f'--{name.replace("_", "-")}' + ('' if value is True else f'={value}')
        for name, value in meta['options'].items()
        if value is not None
        and value is not False
        and name in vars(args)
        and name not in {*sources, *NOT_SAVED}
    ]
    lr_is_new = args.lr is not None
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            parser.parse_args(saved)
        except SystemExit:
            raise checkpoint.CheckpointError(
                f'{path}: its options are none of this program'
            ) from None
    args = parser.parse_args(saved + (sys.argv[1:] if argv is None else list(argv)))
    if args.corpus and args.midi:
        parser.error(f'{path} is a run with --{"corpus" if sources["corpus"] else "midi"}')
    check(parser, args)
    for name in (
        'unit',
        'layer',
        'cell',
        'batchsize',
        'bproplen',
        'optimizer',
        'level',
        'min_count',
        'vocab_size',
        'val_frac',
        'valid',
        'seed',
        'track',
        'events',
        'transpose',
    ):
        old = meta['options'].get(name, parser.get_default(name))
        if getattr(args, name) != old:
            parser.error(f'--{name.replace("_", "-")} is {old} in {path} and cannot change now')
    lr = checkpoint.STATE + 'lr'
    if lr_is_new or lr not in state:  # or saved when it could not decay yet
        state[lr] = numpy.array(args.lr)
    args.out = pathlib.Path(args.out) if args.out else path.parent
    return args, (model, meta, state, path, saved_at)


def check(parser, args):
    """Refuses options that do not go with the kind of what is learned; fills in --lr."""
    for name in ('corpus', 'valid', 'test'):
        if getattr(args, name) == '':
            parser.error(f'--{name} is empty')
    args.lr = OPTIMIZERS[args.optimizer][2] if args.lr is None else args.lr
    unfit = ('track', 'events', 'transpose') if args.corpus else ('level', 'encoding')
    for name in unfit:
        if getattr(args, name) not in (None, 'word'):
            parser.error(f'--{name} is for --{"midi" if args.corpus else "corpus"}')


def sane(corpus, midi, transpose, valid):
    """Do these values, from a checkpoint that may be a stranger's, say what was learned?"""
    if valid is not None and not (isinstance(valid, str) and valid):
        return False
    if midi is None:
        return isinstance(corpus, str) and corpus != '' and transpose is None
    steps = [] if transpose is None else transpose
    return (
        corpus is None
        and isinstance(midi, list)
        and midi
        and all(isinstance(name, str) for name in midi)
        and isinstance(steps, list)
        and len(steps) in (0, 2)
        and all(type(step) is int and abs(step) < 128 for step in steps)
    )


def default_out(args):
    """The folder of a run: --out, or result/NAME of what is learned."""
    return pathlib.Path(args.out or f'result/{corpus.name_of(args.corpus or args.midi[0])}')


def old_run(args):
    """The checkpoint that a bare --resume means."""
    if args.out or args.corpus or args.midi:
        return default_out(args)
    runs = checkpoint.runs()
    if not runs:
        raise checkpoint.CheckpointError('no run below result/ to resume')
    return runs[0]


@terminal.reporting(
    corpus.CorpusError,
    read_midi.MusicError,
    checkpoint.CheckpointError,
    parallel.MpiError,
    FloatingPointError,
)
def main(argv=None):
    """Runs the command with the arguments argv (list of str); returns its exit code."""
    with contextlib.redirect_stdout(terminal.Screen(sys.stdout)):
        comm = choose_communicator(argv)
        try:
            with parallel.quiet(comm):
                return learn(argv, comm)
        except Exception:
            if comm.rank:  # the first process says it
                return 1
            raise


def choose_communicator(argv):
    """The processes of this training: those that mpiexec has started, if --mpi is one of the options."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument('--mpi', action='store_true')
    return parallel.communicator() if parser.parse_known_args(argv)[0].mpi else parallel.Alone()


def learn(argv, comm):
    """The whole of a run, in each of its processes; returns the exit code."""
    with contextlib.ExitStack() as lock:
        args, old = parallel.together(comm, lambda: parse(argv))
        if (
            comm.size > 1
        ):  # the first process encodes a folder, with a progress bar; the others find it
            parallel.together(comm, lambda: comm.rank or not in_folder(args) or read_folder(args))
        updater, val_streams, meta, history, path, test_words = parallel.together(
            comm, lambda: prepare(args, old, comm, lock)
        )
        done = is_done(updater.epoch, history, args)
        code = 0
        if not done:
            join(updater, meta)
            with parallel.ending_all(comm):
                code = run(make_trainer(updater, val_streams, meta, history, args), args)
    if done:
        print(
            f'{updater.epoch} epochs are done already; a larger '
            f'{"--epoch" if updater.epoch >= args.epoch else "--patience"} goes on'
        )
    if args.test and not code and not comm.rank:
        last = path if done else args.out / 'last.npz'
        for path in (last, last.with_name('best.npz')):
            if path.exists():
                test(path, test_words, args)
    return code


def prepare(args, old, comm, lock):
    """Reads what is learned; makes the model and, for a new run or for the `old` one, the folder, which is locked.

    Returns (Updater, Streams to validate or None, meta, history, path of the old last.npz or None, words of --test).
    """
    source = args.corpus or args.midi[0] + (
        f' and {len(args.midi) - 1} more' if args.midi[1:] else ''
    )
    if old:  # before anything is read or fetched that the old run, perhaps a stranger's, names
        print(
            f'going on with {old[3]} after epoch {old[1]["epoch"]}, which learned from {source}'
            + (f' and is validated on {args.valid}' if args.valid else '')
        )
    if in_folder(args):
        ids, notes, n_val = read_folder(args)
        text_sum, vocabulary, about = (
            notes['sum'],
            notes['vocabulary'],
            {'kind': 'text', 'cut': notes['cut']},
        )
        for text in notes['left_out']:
            terminal.complain('train.py', f'left out: {text}')
    else:
        words, n_val, about = read_music(args) if args.midi else read_text(args)
        vocabulary = corpus.make_vocabulary(words, args.min_count, args.vocab_size)
        ids = corpus.encode(words, vocabulary)
        text_sum = zlib.crc32(ids)
    test_words = (
        words_of(args.test, about, args) if args.test else None
    )  # cannot be read? Better now than after hours
    ratio = len(vocabulary) / len(ids)
    print(
        f'{source}: {len(ids):,} tokens, {len(vocabulary):,} types, {ratio:.3f} types per token'
        + (f', cut by {about["cut"]}' if args.corpus else '')
    )
    if args.midi and ratio > music.MAX_TYPES_PER_TOKEN:
        print(
            'so many different words can only be learnt by heart; '
            + ('--events notes, ' if args.events == 'performance' else '')
            + 'another --track, a score instead of a recording, or several files have more in common'
        )
    meta = {
        **about,
        'vocabulary': vocabulary,
        'text_sum': text_sum,
        'options': {name: value for name, value in vars(args).items() if name not in NOT_SAVED},
    }

    numpy.random.seed(args.seed)
    path = None
    if old:
        model, old_meta, state, path, saved_at = old
        if any(old_meta[key] != meta[key] for key in ('vocabulary', 'text_sum')):
            raise corpus.CorpusError(f'{source}: not what {path} was trained on')
    else:
        model = RNN(len(vocabulary), args.unit, args.layer, args.cell)
    if comm.intra_size > 1:
        fused.share_cores(comm.intra_size)
    use_device(model, args.gpu if args.gpu < 0 else args.gpu + comm.intra_rank)
    if comm.rank:  # dropout of its own
        numpy.random.seed([args.seed, comm.rank])
    if model.xp is not numpy:
        model.xp.random.seed(args.seed + (comm.rank << 32))

    streams, val_streams = cut_streams(ids, n_val, args, comm)
    print(
        f'{model.count_params():,} parameters; {streams.size:,} words to learn, in '
        f'{streams.batchsize} streams{f" of {comm.size} processes" * (comm.size > 1)}; '
        f'{val_streams.size if val_streams else 0:,} to validate'
    )
    if not val_streams and (args.patience or args.lr_decay < 1):
        print('without validation --patience and --lr-decay do nothing', file=sys.stderr)
    updater = make_updater(model, streams, args)
    history = []
    if old:
        checkpoint.resume(path, state, updater)
        if updater.epoch != old_meta['epoch']:
            raise checkpoint.CheckpointError(
                f'{path}: epoch {old_meta["epoch"]} and {updater.epoch}'
            )
        history = timed(old_meta['history'], path.with_name('log'))

    own = old and path.resolve() == (args.out / 'last.npz').resolve()
    if not comm.rank and (own or not is_done(updater.epoch, history, args)):
        args.out.mkdir(parents=True, exist_ok=True)
        try:
            lock.enter_context(
                filelock.FileLock(args.out / '.lock', blocking=False)
            )  # gone with the process, however it ends
        except filelock.Timeout:
            raise checkpoint.CheckpointError(
                f'{args.out}: another training is going on in this folder; --out takes another one'
            ) from None
        if not own:
            clear(args.out, path.with_name('best.npz') if old else None)
        elif path.stat().st_mtime_ns != saved_at:  # before there was the lock
            raise checkpoint.CheckpointError(
                f'{path}: another training has just written it; start again'
            )
        for name in FILES:  # of a process that was killed
            terminal.beside(args.out / name).unlink(missing_ok=True)
        write_log(args.out, history)  # cannot be written? Better now than after an epoch
        if history:  # a kill may have come between the checkpoint and its picture
            draw_log(args.out, history)
    return updater, val_streams, meta, history, path, test_words


def join(updater, meta):
    """Gives all processes the weights of the first, and a way to exchange gradients between GPUs.

    MpiError if they have not read the same text and the same checkpoint, or only some have a GPU.
    """
    model = updater.get_optimizer('main').target
    read = updater.comm.mpi_comm.allgather(
        (
            meta['text_sum'],
            zlib.crc32(json.dumps(meta['vocabulary']).encode()),
            updater.get_iterator('main').size,
            updater.iteration,
        )
    )
    others = [rank for rank, facts in enumerate(read) if facts != read[0]]
    if others:
        raise parallel.MpiError(
            f'process {others[0]} has read another text, or another checkpoint, than process 0'
        )
    devices = updater.comm.mpi_comm.allgather(model.xp.__name__)
    if len(set(devices)) > 1:
        raise parallel.MpiError(
            f'process {devices.index("numpy")} has no GPU, others have one; fewer processes, or no --gpu'
        )
    if model.xp is not numpy and updater.comm.size > 1:
        updater.comm = parallel.together(updater.comm, lambda: parallel.communicator('pure_nccl'))
    updater.comm.bcast_data(model)


def clear(out, best):
    """Makes room for a new run in the folder `out`; of one that goes on elsewhere, copies best.npz."""
    best = best.read_bytes() if best and best.is_file() else None
    move_aside(out)
    if best:
        with terminal.replacing(out / 'best.npz') as file:
            file.write(best)


def test(path, words, args):
    """Prints what the model at `path` makes of the words (list of str) of --test, which it has not learned.

    Words that it does not know are <unk> to it or, if it has none, left out. They are read in parallel
    streams, as in validation; those that fill no stream, fewer than there are streams, are not.
    CorpusError if it knows none of them, FloatingPointError if the loss is no number.
    """
    model, meta = checkpoint.load(path)
    use_device(model, args.gpu)
    vocabulary = meta['vocabulary']
    known, total = set(vocabulary), len(words)
    if corpus.UNK not in known:
        words = [word for word in words if word in known]
    if not words:
        raise corpus.CorpusError(f'{args.test}: the model knows none of its words')
    unknown = total - len(words) or sum(word not in known for word in words)
    streams = make_streams(corpus.encode([corpus.EOS, *words], vocabulary), args, repeat=False)
    model.initialize_state(streams.batchsize)
    nats = 0
    with chainer.no_backprop_mode(), chainer.using_config('train', False), no_warnings():
        for x, t in map(model.device.send, streams):
            nats += float(choose_forward(model, args)(model, x, t, 0)[0].array) * streams.batchsize
    loss = nats / streams.size
    if not math.isfinite(loss):
        raise FloatingPointError(
            f'{path}: the weights of the model are so large that the loss is {loss}'
        )
    line = f'{args.test} under {path} (epoch {meta["epoch"]}): loss {loss:.4f} nats per word'
    line += f', perplexity {math.exp(min(loss, 700)):.4g}'
    if (
        meta['kind'] == 'text'
    ):  # whose? Of what it could name: to say <unk> is easier than to spell the word
        named = [word for word in words[: streams.size] if word in known and word != corpus.UNK]
        line += f', {nats / math.log(2) / max(1, len(corpus.join(named, meta["cut"]))):.4f} bits per character'
    print(
        f'{line}; {streams.size:,} words'
        + (
            f'; {unknown:,} more words that it does not know, left out'
            if total > len(words)
            else f', of which {unknown:,} are {corpus.UNK} to it'
            if unknown
            else ''
        )
    )


def read_text(args):
    """The words (list of str) of --corpus, how many of the last validate, and what meta says of them."""
    text = corpus.read(args.corpus, args.encoding)
    cut = corpus.choose_cut(text, args.level)
    return with_validation(corpus.split_text(text, cut), {'kind': 'text', 'cut': cut}, args)


def in_folder(args):
    """Is it a folder of texts that is learned (bool)? CorpusError."""
    return args.corpus is not None and corpus.is_folder(args.corpus)


def read_folder(args):
    """The ids (numpy.memmap) of the texts of a folder, notes on them (corpus.encode_folder), how many of the last validate."""
    more = corpus.read(args.valid, args.encoding) if args.valid else ''
    ids, notes = corpus.encode_folder(
        args.corpus, more, ENCODED, args.level, args.encoding, args.min_count, args.vocab_size
    )
    return ids, notes, notes['more'] if args.valid else int(len(ids) * args.val_frac)


def read_music(args):
    """The same for --midi: EOS stands before, between and after the pieces."""
    collection = music.read(map(corpus.find, args.midi), args.track, args.events or 'notes')
    pieces, remarks = collection.pieces, collection.remarks
    if len(pieces) > 1:
        which = 'the track with most notes' if args.track is None else f'track {args.track}'
        remarks.append(f'{len(pieces)} pieces, of each {which}')
    print(*remarks, sep='\n')
    words = [corpus.EOS] + in_a_row(pieces)
    words, n_val, about = with_validation(
        words,
        {'kind': 'music', 'cut': 'space', 'music': dataclasses.asdict(collection.setup)},
        args,
    )
    if args.transpose:  # only what is learned, so that validation hears nothing twice
        n_train = len(words) - n_val
        words = music.also_transposed(words[:n_train], *args.transpose) + words[n_train:]
        print(f'transposed: {len(words) - n_val:,} words to learn instead of {n_train:,}')
    return words, n_val, about


def with_validation(words, about, args):
    """(words to learn and, behind them, to validate, number of the latter, about)."""
    if not args.valid:
        return words, int(len(words) * args.val_frac), about
    more = words_of(args.valid, about, args)
    return words + more, len(more), about


def words_of(source, about, args):
    """The words (list of str) of --valid or --test, made as those that are learned; CorpusError, MusicError."""
    if about['kind'] == 'text':
        return corpus.split_text(corpus.read(source, args.encoding), about['cut'])
    setup = read_midi.Setup.from_dict(about['music'])
    collection = music.read([corpus.find(source)], args.track, args.events or 'notes', setup)
    print(*collection.remarks, sep='\n')
    return in_a_row(collection.pieces)


def in_a_row(pieces):
    """The words of pieces (lists of str), EOS behind each."""
    return [word for piece in pieces for word in (*piece, corpus.EOS)]


def cut_streams(ids, n_val, args, comm):
    """(Streams to learn, Streams to validate or None) of ids (N,) int32.

    The last n_val of the words are for validation. A text too short for
    batchsize streams of one window each gets fewer streams, and a line says so.
    """
    n_train = len(ids) - n_val
    if n_train < 2:
        raise corpus.CorpusError(
            f'{args.corpus or args.midi[0]}: {n_train} word to learn from; it takes 2, '
            'and some thousands to learn something'
        )

    train = make_streams(ids[:n_train], args, repeat=True, comm=comm)
    if train.batchsize < args.batchsize:
        print(f'a small text: {train.batchsize} streams instead of {args.batchsize}')
    if train.batchsize < comm.size:
        raise corpus.CorpusError(f'{train.batchsize} streams are too few for {comm.size} processes')
    return train, make_streams(ids[n_train - 1 :], args, repeat=False, comm=comm) if n_val else None


def make_streams(ids, args, repeat, comm=parallel.Alone()):
    """Streams of ids (N,) int32, fewer than --batchsize if the text is short."""
    batchsize = min(args.batchsize, max(1, (len(ids) - 1) // args.bproplen))
    return Streams(ids, batchsize, args.bproplen, repeat, comm)


def make_updater(model, streams, args):
    """The Updater that trains the model on the streams as the options say."""
    kind, step_size, _ = OPTIMIZERS[args.optimizer]
    optimizer = kind(args.lr)
    optimizer.setup(model)
    optimizer.add_hook(chainer.optimizer_hooks.GradientClipping(args.gradclip))

    # Not chainer's WeightDecay, whose gradient Adam would divide by the size of the others
    # (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101).
    def weight_decay(optimizer):
        for param in model.params():
            param.array *= 1 - getattr(optimizer, step_size) * args.weight_decay

    if args.weight_decay:
        optimizer.add_hook(weight_decay, timing='post')
    return Updater(streams, optimizer, step_size, args.dropout, choose_forward(model, args))


def choose_forward(model, args):
    """`stepwise`, if the options or the cells of the model want it, else fused.forward."""
    return stepwise if args.stepwise or model.cell != 'lstm' else fused.forward


def make_trainer(updater, val_streams, meta, history, args):
    """The Trainer with everything that watches: validation, log, curve, samples, checkpoints.

    Its triggers and extensions have nothing to save: all that goes on is in updater and history.
    """
    model, comm = updater.get_optimizer('main').target, updater.comm
    trainer = training.Trainer(updater, Stop(args, comm), args.out)

    def epoch(trainer):
        return updater.is_new_epoch

    if val_streams:
        reader = model.copy()  # the same weights, a state of its own

        def validate(x, t):
            sums = [0, 0]
            if x.size:  # a short text may have fewer streams than there are processes
                loss, accuracy = updater.forward(reader, x, t, 0)
                sums = [
                    float(loss.array) * val_streams.weight,
                    float(accuracy) * val_streams.weight,
                ]
            loss, accuracy = parallel.mean(comm, sums)
            chainer.report(
                {'loss': (loss / len(x), len(x)), 'accuracy': (accuracy / len(x), len(x))}, reader
            )

        trainer.extend(
            extensions.Evaluator(
                val_streams,
                reader,
                device=model.device,
                converter=chainer.dataset.converter()(
                    lambda window, device: tuple(device.send(window))
                ),
                eval_hook=lambda evaluator: reader.initialize_state(val_streams.rows),
                eval_func=validate,
            ),
            trigger=epoch,
        )
    derived = 'bpc' if args.level == 'char' else 'perplexity'
    before = max((entry.get('elapsed_time', 0) for entry in history), default=0)
    log = extensions.LogReport(
        trigger=epoch, log_name=None, postprocess=lambda entry: add_derived(entry, before, derived)
    )
    log.log.extend(history)
    trainer.extend(log)
    trainer.extend(
        extensions.PrintReport(
            [
                'epoch',
                'main/loss',
                'main/accuracy',
                derived,
                'val_' + derived,
                'tokens/s',
                'elapsed_time',
            ],
            out=sys.stdout,
        ),
        trigger=epoch,
    )
    if sys.stdout.isatty() and not comm.rank:
        trainer.extend(extensions.ProgressBar(update_interval=5, out=sys.stdout))

    def sample(trainer):
        writer = model.copy()
        start = [meta['vocabulary'].index(corpus.EOS)]
        drawn = generate(
            writer,
            start,
            60,
            forbidden=positions(corpus.UNK, meta['vocabulary']),
            rng=numpy.random.RandomState(updater.epoch),
        )
        try:
            text = ''.join(written([], (meta['vocabulary'][i] for (i,) in drawn), meta['cut']))
        except FloatingPointError as error:  # only the first of several processes would know
            text = f'nothing: {error}\n'
        print(f'\033[J--- after epoch {updater.epoch} it writes ---\n{text}---', flush=True)

    def save(trainer):
        updater.gather()
        check_finite(updater, log.log)
        if comm.rank:
            return
        args.out.mkdir(parents=True, exist_ok=True)  # somebody may have tidied up
        meta.update(epoch=updater.epoch, history=untimed(log.log))
        if updater.is_new_epoch and val_streams and epochs_since_best(log.log) == 0:
            checkpoint.save(args.out / 'best.npz', model, meta)
        checkpoint.save(args.out / 'last.npz', model, meta, updater)
        if updater.is_new_epoch:
            write_log(args.out, log.log)
            draw_log(args.out, log.log)

    def decay(trainer):
        if epochs_since_best(log.log):
            updater.lr *= args.lr_decay
            print(f'no better validation: the step size is {updater.lr:.3g} now')

    if val_streams and args.lr_decay < 1:
        trainer.extend(decay, trigger=epoch)
    if args.sample_every and not comm.rank:
        trainer.extend(
            sample,
            trigger=lambda trainer: updater.is_new_epoch and updater.epoch % args.sample_every == 0,
        )
    last = -100  # so that a checkpoint holds what the others did
    trainer.extend(save, trigger=epoch, priority=last)
    timer = triggers.TimeTrigger(AUTOSAVE)
    trainer.extend(
        save, 'autosave', trigger=lambda trainer: comm.mpi_comm.bcast(timer(trainer)), priority=last
    )
    return trainer


def add_derived(entry, before, derived):
    """Adds to an entry of the log the time `before`, seconds, and what is derived from the losses (nats per word).

    derived: 'perplexity', exp(loss), or 'bpc', bits per character, of a text whose words are characters.
    """
    entry['elapsed_time'] += before
    for loss, name in (('main/loss', derived), ('validation/main/loss', 'val_' + derived)):
        if loss in entry:  # exp(710) overflows
            entry[name] = (
                entry[loss] / math.log(2) if derived == 'bpc' else math.exp(min(entry[loss], 700))
            )


def untimed(log):
    """The entries of a log (list of dict) without TIMES."""
    return [{name: value for name, value in entry.items() if name not in TIMES} for entry in log]


def timed(history, path):
    """The entries of a history, with the times that the log at `path` has for them, if it has."""
    try:
        log = json.loads(path.read_bytes()) if path.is_file() else []
        same = [
            old
            for entry, old in zip(history, log)
            if untimed([old]) == [entry]
            and all(isinstance(old.get(name), float) and math.isfinite(old[name]) for name in TIMES)
        ]
    except (AttributeError, OSError, RecursionError, TypeError, ValueError):
        same = []  # a checkpoint needs no log beside it
    return same + history[len(same) :] if untimed(same) == history[: len(same)] else history


def check_finite(updater, log):
    """FloatingPointError if what would be saved holds numbers that are none."""
    model = updater.get_optimizer('main').target
    if not (
        all(map(math.isfinite, log[-1].values() if log else []))
        and all(numpy.isfinite(array).all() for array in updater.state.values())
        and all(model.xp.isfinite(param.array).all() for param in model.params())
    ):
        raise FloatingPointError(
            f'weights or losses are no numbers any more after step {updater.iteration}'
        )


def write_log(out, log):
    """Writes the entries of a log (list of dict) as JSON to the file log in the folder `out`."""
    with terminal.replacing(out / 'log') as file:
        file.write(json.dumps(log, indent=4).encode())


def draw_log(out, log):
    """Draws the losses of a log as loss.png in the folder `out`.

    chainer's PlotReport draws into the old picture, which a full disk leaves half, and forgets
    what was before a resumption.
    """
    figure = matplotlib.figure.Figure(layout='constrained')
    axes = figure.subplots()
    for name in ('main/loss', 'validation/main/loss'):
        points = [(entry['epoch'], entry[name]) for entry in log if name in entry]
        if points:
            axes.plot(*zip(*points), marker='.', label=name)
    axes.set_xlabel('epoch')
    axes.set_ylabel('nats per word')
    axes.grid()
    axes.legend()
    with terminal.replacing(out / 'loss.png') as file:
        figure.savefig(file, format='png')


def epochs_since_best(log):
    """How many epochs ago the validation loss was lowest (0: the last entry of the log)."""
    losses = [entry.get('validation/main/loss', math.inf) for entry in log]
    return len(losses) - 1 - losses.index(min(losses))


def is_done(epoch, log, args):
    """Was the text read --epoch times, or --patience times without better validation (bool)?"""
    validated = log and 'validation/main/loss' in log[-1]
    return epoch >= args.epoch or bool(
        args.patience and validated and epochs_since_best(log) >= args.patience
    )


def move_aside(out):
    """Makes room for a new run in the folder `out`: an old one moves to out/old-1, old-2, ..."""
    files = [out / name for name in FILES if (out / name).exists()]
    if files:
        free = next(n for n in itertools.count(1) if not (out / f'old-{n}').exists())
        aside = out / f'old-{free}'
        aside.mkdir()
        for file in files:
            file.rename(aside / file.name)
        print(f'the run that was in {out} is now in {aside}')


class Stop:
    """Ends training after the last epoch, at the end of patience, or when one of the processes got a signal."""

    def __init__(self, args, comm):
        self.args, self.comm = args, comm
        self.signals = []  # that this process got
        self.asked = 0  # by a signal that one of them got

    def __call__(self, trainer):
        self.asked = max(self.comm.mpi_comm.allgather(max(self.signals, default=0)))
        return bool(self.asked) or is_done(
            trainer.updater.epoch, trainer.get_extension('LogReport').log, self.args
        )

    def get_training_length(self):
        """What the progress bar asks for."""
        return self.args.epoch, 'epoch'

    def on_signal(self, number, frame):
        if self.signals:  # asked for a second time
            if number in (signal.SIGINT, signal.SIGTERM):
                raise KeyboardInterrupt
            return  # when a terminal is closed, both the system and the shell say so
        self.signals.append(number)
        print('\nfinishing this window and saving (once more: stop at once)', file=sys.stderr)


@contextlib.contextmanager
def no_warnings():
    """Inside, NumPy says nothing of numbers out of bounds, in no thread."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', '.* encountered in ', RuntimeWarning)
        yield


def run(trainer, args):
    """Trains to the end or to a signal (one of SIGNALS), then saved too; returns the exit code."""
    stop = trainer.stop_trigger
    handlers = {
        number: signal.signal(number, stop.on_signal)
        for number in SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }  # a job in the background
    try:
        with no_warnings():  # Updater.watch says it, in one line
            trainer.run(show_loop_exception_msg=False)
        if stop.asked:
            if not trainer.updater.iteration:
                print('stopped before the first window; nothing to save', file=sys.stderr)
                return 128 + stop.asked
            trainer.get_extension('save')(trainer)
            print(f'stopped; --resume goes on from {args.out / "last.npz"}', file=sys.stderr)
            return 128 + stop.asked
    except OSError as error:
        error.filename = error.filename or args.out
        raise
    except FloatingPointError as error:
        raise FloatingPointError(
            f'{error}; '
            + (
                f'--resume {args.out} goes on from the save before, --lr {trainer.updater.lr / 4:g} may avoid it'
                if (args.out / 'last.npz').exists()
                else 'nothing was saved yet; a smaller --lr may help'
            )
        ) from None
    except KeyboardInterrupt:
        saved = (args.out / 'last.npz').exists()
        print(
            'stopped at once;',
            f'--resume goes on from the last save in {args.out}'
            if saved
            else 'nothing was saved yet',
            file=sys.stderr,
        )
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    print(f'epoch {trainer.updater.epoch} of {args.epoch} done; the run is in {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
