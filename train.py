"""Trains the article's network on a text, or on music.

    python train.py --corpus holmes.txt
    python train.py --gpu 0 --corpus holmes.txt
    python train.py --midi track1.mid
    python train.py --init-from result/holmes --corpus other.txt
    mpiexec -n 4 python train.py --mpi --corpus holmes.txt

How a text becomes mini-batches, with batchsize 3 and bproplen 4 for instance:

    words      a b c d e f g h i j k l m n o p q r s t u v
    stream 0   a b c d|e f g      Each column of a window is one step: the network
    stream 1   h i j k|l m n      reads a h o and should predict b i p. A window is
    stream 2   o p q r|s t u      one update. The LSTM state runs on from window to
               window 1|window 2  window, until the epoch ends.
"""

import argparse
import contextlib
import math
import sys

from support import terminal

if __name__ == '__main__':
    terminal.quiet_imports()

from support import modern_chainer  # noqa: F401  prepares chainer's import

import chainer
import numpy

from generate import readable, sample
from read_midi import EVENTS, track_option
from rnn import CELLS, DROPOUT_OF, RNN
from support import checkpoint, data, evaluation, fused, optimizers, parallel, run
from support.checkpoint import Checkpoint
from support.options import merge
from support.progress import Progress
from support.source import CorpusError
from support.terminal import number

# What makes a run what it is, and cannot change when it goes on (--resume). Perplexities: the best
# of validation on the article's book, with --stepwise; other random numbers differ by some units.
RUN = {
    'unit': 256,  # Perplexity 280; with 128 it is 297.
    'layer': 2,  # The article's; it wished for more.
    'cell': 'lstm',  # The article's.
    'batchsize': 20,  # Zaremba et al. 2014. 50 save a quarter of the time, but reach only 291.
    'bproplen': 35,  # Zaremba et al. 2014, and Chainer's ptb example.
    'optimizer': 'adam',  # The article's.
    'seed': 0,  # Fixed: two readers who compare notes see the same numbers.
    'level': 'word',  # The article's.
    'tokenizer': None,  # By the text.
    'min_count': 1,  # A small book can spare no word, and <unk> is never written.
    'vocab_size': 0,  # All words.
    'val_frac': 0.05,  # Enough words for a steady figure, few enough not to be missed.
    'track': None,  # The one with most notes: one voice is what the article learned.
    'channel': None,  # The same, in the track.
    'events': 'notes',  # The article's.
    'grid': 0,  # Off: a score needs none. 12 has triplets and sixteenths.
    'transpose': None,
    'known': 0,  # Of --init-from: so many of the first words are that model's.
}
TRAINING = {  # What may change.
    **dict.fromkeys(('corpus', 'midi', 'valid', 'encoding', 'init_from')),
    'errors': 'strict',  # A damaged book should be noticed.
    'epoch': 40,  # The words are well known then, the article's "well converged": perplexity 16.
    # The article's. Less validates better (0.3: 239, 0.2: 229), but to an independent judge writes
    # no better, and copies more (docs/training.md, "What was measured").
    'dropout': 0.5,
    'dropout_of': 'projections',  # The article's.
    'gradclip': 5.0,  # As in Chainer's ptb example, for the loss summed over a window.
    'lr': None,  # That of OPTIMIZERS.
    'schedule': 'constant',  # The article's. What linear is good for stands in docs/training.md.
    'weight_decay': 0.0,  # Off; what it is good for stands in docs/training.md.
    'patience': 0,  # Off: the article wants a model that knows its text. best.npz is the other.
    'stepwise': False,  # A fused window gives the same numbers in less time.
    'sample_every': 5,
}
START = {'test': None, 'gpu': -1, 'mpi': False, 'out': None, 'resume': None}  # Never saved.
DEFAULTS = {**RUN, **TRAINING, **START}
OPTIMIZERS = {  # With the name of their learning rate and a good value of it.
    # Perplexity 280 with 0.002 after four epochs, 282 with 0.001 after five, 303 with 0.004.
    'adam': (optimizers.Adam, 'alpha', 0.002),
    'rmsprop': (chainer.optimizers.RMSprop, 'lr', 0.002),  # As in char-rnn.
    'sgd': (chainer.optimizers.SGD, 'lr', 1.0),  # Zaremba et al. 2014, and Chainer's ptb example.
}

AT_LEAST_0, COUNT, SIZE = number(int, 0), number(int, 1), number(float, 0)


# fmt: off
def options():
    """The argparse.ArgumentParser. What is not on the command line is not in its result."""
    parser = terminal.Parser(
        prog='train.py', description="Trains the article's network on a text or on music.",
        epilog='A run that goes on (--resume) keeps its options, except those given anew.',
        argument_default=argparse.SUPPRESS)

    def group(title):
        group = parser.add_argument_group(title)

        def option(name, help, type=None, metavar=None, short=(), **more):
            default = DEFAULTS[name.strip('-').replace('-', '_')]
            help += '' if default is None or default is False else f' (default: {default})'
            more |= {'type': type, 'metavar': metavar} if type or metavar else {}
            group.add_argument(name, *short, help=help, **more)
        return option

    data_options(group('what it learns'))
    training_options(group('the network'), group('training'), group('this start'))
    return parser


def data_options(option):
    option('--corpus', 'texts: files, folders of .txt, .zip files or http(s) addresses of them; '
           'bare names are also looked up in data/', metavar='SOURCE', nargs='+')
    option('--midi', 'music: .mid files, folders or .zip files of them, or http(s) addresses; bare '
           'names are also looked up in data/', metavar='SOURCE', nargs='+')
    option('--level', 'what a step reads: a word or a character', choices=('word', 'char'))
    option('--tokenizer', 'what cuts words (default: by the text)', choices=('mecab', 'space'))
    option('--encoding', 'encoding of the text (default: UTF-8, Shift_JIS, EUC-JP or ISO-2022-JP)')
    option('--errors', 'what bad bytes do: stop, or become \ufffd', choices=('strict', 'replace'))
    option('--min-count', 'rarer words become <unk>; 2 or 3 for a large text', COUNT, 'N')
    option('--vocab-size', 'only the N most frequent words are kept, others become <unk>; 0 keeps '
           'all; 20000 for a library', AT_LEAST_0, 'N')
    option('--track', 'track of each MIDI file, counted from 0, or all, merged (default: the one '
           'with most notes, percussion not counted)', track_option, 'N')
    option('--channel', 'one channel, 1 to 16; 10 is percussion (default: the one with most notes '
           'in the track, percussion not counted; of all tracks all)', number(int, 1, 16), 'N')
    option('--events', 'what becomes a word: notes, or performance, which also has programs, '
           'controllers, pedals, pitch bends and changes of tempo', choices=tuple(EVENTS))
    option('--grid', 'for recordings: round times to N steps of a quarter, and velocities to eight '
           'levels; the pedal lengthens notes; 12 is usual, 0 keeps all', number(int, 0, 960), 'N')
    option('--transpose', 'learn music also transposed by A to B semitones; an epoch takes as many '
           'times as long', number(int, -127, 127), ('A', 'B'), nargs=2)
    option('--val-frac', 'share at the end, kept for validation', number(float, 0, 0.9), 'F')
    option('--valid', 'what to validate on instead of the last part', metavar='SOURCE', nargs='+')
    option('--test', 'text or music to test the trained model on: prints loss, perplexity and bits '
           'per character; --resume only tests if all epochs are done', metavar='SOURCE', nargs='+')


def training_options(network, training, start):
    network('--unit', 'width of all layers; 128 is fast, 512 for characters', COUNT, 'N', ['-u'])
    network('--layer', 'recurrent layers', number(int, 1, 99), 'N')
    network('--cell', 'LSTMs, GRUs or the plain h = tanh(W_hh h + W_xh x)', choices=CELLS)
    training('--epoch', 'times to read the text', COUNT, 'N', ['-e'])
    training('--batchsize', 'streams: more are faster, fewer learn more', COUNT, 'B', ['-b'])
    training('--bproplen', 'window: words of truncated BPTT; 50 for characters', COUNT, 'T', ['-l'])
    training('--dropout', 'share left out; less validates better', number(float, 0, 0.99), 'P')
    training('--dropout-of', 'what it leaves out; inputs validate better', choices=DROPOUT_OF)
    training('--gradclip', 'gradient clipping: largest norm; 0: none', SIZE, 'N', ['-c'])
    training('--optimizer', 'how gradients become updates of the weights', choices=OPTIMIZERS)
    training('--lr', 'learning rate (default: 0.002; of sgd 1)', SIZE, 'A')
    training('--schedule', 'linear: it falls evenly to 0', choices=('constant', 'linear'))
    training('--weight-decay', 'updates shrink weights by this share times --lr', SIZE, 'R')
    training('--patience', 'N epochs without better validation end it; 0: never', AT_LEAST_0, 'N')
    training('--stepwise', 'as in the article, word by word', action=argparse.BooleanOptionalAction)
    training('--seed', 'same seed, same machine, same result', number(int, 0, 2**32 - 1), 'N')
    training('--sample-every', 'epochs, or million words, between samples', AT_LEAST_0, 'N')
    start('--gpu', 'GPU to use, 0 for the first; -1: the CPU', int, 'ID')
    start('--mpi', 'train in all processes that mpiexec has started', action='store_true')
    start('--out', 'where the run is kept (default: result/NAME)', metavar='FOLDER', short=['-o'])
    start('--init-from', 'begin with weights and words of a model: folder or .npz', str, 'MODEL')
    start('--resume', 'go on with a run: its folder or last.npz (default: that of --out, '
          '--corpus or --midi, else the newest)', metavar='PATH', short=['-r'], nargs='?', const='')
# fmt: on


@terminal.reporting
def main(argv=None):
    """Runs the command with the arguments argv (list of str); returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(terminal.Screen(sys.stdout)))
        comm = stack.enter_context(parallel.processes('--mpi' in argv))
        folder, parser = stack.enter_context(run.Folder()), options()
        args, saved, initial = parallel.together(
            comm, lambda: merge(parser, vars(parser.parse_args(argv)), RUN, DEFAULTS, folder, comm)
        )
        learned = parallel.together(comm, lambda: data.load(args, saved, initial))
        print(*learned.remarks, sep='\n')
        stopped, last = 0, args.out / 'last.npz'
        if saved and is_done(saved, args):
            option, last = '--epoch' if saved.epoch >= args.epoch else '--patience', saved.path
            print(f'{saved.epoch} epochs are done already; a larger {option} goes on')
        else:
            with parallel.ending_all(comm), run.explained(args):
                stopped = train(args, learned, saved, initial, folder, comm)
        if stopped:
            print(f'stopped; --resume goes on from {last}', file=sys.stderr)
            return 128 + stopped
        if args.test and not comm.rank:
            for path in (last, last.with_name('best.npz')):
                if path.exists():
                    print(evaluation.test(path, learned.test, evaluate, args))
        return 0


def train(args, learned, saved, initial, folder, comm):
    """The article's loop; returns the number of the signal that stopped it, or 0.

    args: the options; learned: data.Data; saved: the Checkpoint to go on from, initial: the one to
    begin with, or None; folder: run.Folder; comm: the processes that train together.
    """
    # Init model
    numpy.random.seed(args.seed)
    with terminal.doing('making the network'):
        size = len(learned.vocabulary), args.unit, args.layer, args.cell
        model = saved.model if saved else RNN(*size)
        checkpoint.begin(model, initial)
        parallel.choose_device(comm, model, args.gpu, args.seed)
    batchsize = choose_batchsize(learned.ids, args, comm.size)
    x_streams, t_streams = streams(learned.ids, batchsize)
    windows = -(-x_streams.shape[1] // args.bproplen)  # of an epoch

    # Setup optimizer
    optimizer = setup_optimizer(model, args, windows * args.epoch)
    mine = parallel.share(comm, batchsize)  # the streams of this process
    model.initialize_state(mine.stop - mine.start)
    kept = {name: getattr(args, name) for name in (*RUN, *TRAINING)}  # the options of a run
    trained = Checkpoint(model, **learned.about(), options=kept)
    sums = checkpoint.resume(trained, saved, optimizer, batchsize, comm)
    comm = parallel.join(comm, model, [learned.crc, x_streams.size, optimizer.t])
    parallel.together(comm, lambda: folder.open(args.out, saved, comm.rank))
    print(f'{model.count_params():,} parameters;', learned.sizes(batchsize, args, comm.size))
    begun = trained.epoch * x_streams.size + optimizer.t % windows * args.bproplen * batchsize
    stopped, progress = 0, Progress(args.epoch, x_streams.size, begun, sums, folder.log)
    with run.Stop() as stop, progress:
        while not stopped and not is_done(trained, args):
            # Prepare mini batch
            window = optimizer.t % windows
            steps = slice(window * args.bproplen, (window + 1) * args.bproplen)
            x, t = (model.xp.array(s[mine, steps].T, 'i') for s in (x_streams, t_streams))
            if window == 0:  # the streams start again, and so does the memory
                model.initialize_state(x.shape[1])

            # Forward
            accum_loss, accum_accuracy = forward(model, x, t, args)

            # Backward: truncated BPTT
            model.cleargrads()
            accum_loss.backward()
            accum_loss.unchain_backward()  # the next window keeps the state, not its history
            comm.multi_node_mean_grad(model)  # with --mpi: over all processes
            optimizer.update()  # gradient clipping, then a step of the optimizer

            # Progress, validation, checkpoints
            means = parallel.mean(comm, [float(accum_loss.array), float(accum_accuracy)])
            progress.add(*means, len(x), len(x) * batchsize, optimizer.t)
            stopped, is_due = parallel.highest(comm, [stop.signal, progress.is_due()])
            done = progress.parts_done(window, windows)
            entry = done and end_part(trained, learned, optimizer, progress, done, args, comm)
            if entry or stopped or is_due:
                with progress.saving():
                    folder.save(trained, optimizer, progress.sums, entry, comm)
    if not stopped:
        print(f'epoch {trained.epoch} of {args.epoch} done; the run is in {args.out}')
    return stopped


def is_done(trained, args):
    """Was the text read --epoch times, or --patience times without better validation (bool)?"""
    worse = trained.epoch - trained.best_epoch if trained.best_loss is not None else 0
    return trained.epoch >= args.epoch or bool(args.patience and worse >= args.patience)


def setup_optimizer(model, args, updates):
    """The optimizer (chainer.Optimizer) of the model, for a run of so many updates (int)."""
    kind, learning_rate, usual = OPTIMIZERS[args.optimizer]
    args.lr = usual if args.lr is None else args.lr
    if args.weight_decay * args.lr >= 1:
        raise terminal.WrongUse('--weight-decay times --lr is 1 or more: no weight would be left')
    optimizer = kind(args.lr).setup(model)
    if args.gradclip:
        optimizer.add_hook(optimizers.GradientClipping(args.gradclip))
    if args.schedule == 'linear':  # optimizer.t: the updates before this one
        optimizer.add_hook(
            lambda o: setattr(o, learning_rate, args.lr * (1 - o.t / updates)), 'linear'
        )
    if args.weight_decay:
        # Not chainer's WeightDecay, whose gradient Adam would divide by the size of the others
        # (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101).
        def weight_decay(optimizer):
            for param in model.params():
                param.array *= 1 - getattr(optimizer, learning_rate) * args.weight_decay

        optimizer.add_hook(weight_decay, timing='post')
    return optimizer


def choose_batchsize(ids, args, processes=1):
    """How many streams: --batchsize, or fewer of a window each; CorpusError of too few ids (N,)."""
    batchsize = min(args.batchsize, max(1, (len(ids) - 1) // args.bproplen))
    batchsize -= batchsize % processes
    if not batchsize:
        raise CorpusError(f'the text is too short for {processes} processes; start fewer')
    return batchsize


def streams(ids, batchsize):
    """Cuts ids (N,) into parallel streams: x and t, (B, L) views; t is the word after each x."""
    length = (len(ids) - 1) // batchsize
    size = batchsize * length  # the last words, fewer than there are streams, are left out
    return ids[:size].reshape(batchsize, length), ids[1 : size + 1].reshape(batchsize, length)


def forward(model, x, t, args):
    """What `stepwise` does; without --stepwise, LSTMs read the whole window at once."""
    read = stepwise if args.stepwise or model.cell != 'lstm' else fused.forward
    return read(model, x, t, args.dropout, args.dropout_of)


def stepwise(model, x, t, *dropout):
    """Reads a window as the article does, word by word: x and t, (T, B) int32 ids.

    Moves the state of the model on; dropout: ratio and place, as model.forward takes them. Returns
    the sums over the T steps of the loss, a scalar Variable (nats), and of the accuracy.
    """
    accum_loss = accum_accuracy = 0
    for x_step, t_step in zip(x, t):
        loss, accuracy = model.forward(x_step, t_step, *dropout)
        accum_loss += loss
        accum_accuracy += accuracy.array
    return accum_loss, accum_accuracy


def evaluate(model, ids, args, comm=parallel.ALONE):
    """Reads ids (N,) in parallel streams: (loss in nats per word, accuracy, number of words).

    It begins with a fresh state; the model keeps its own. No dropout. Words that fill no stream
    are left out. All processes of comm get the same numbers.
    """
    reader = model.copy()
    x_streams, t_streams = streams(ids, choose_batchsize(ids, args))
    mine = parallel.share(comm, len(x_streams))  # of few streams, some processes have none
    rows, sums = mine.stop - mine.start, numpy.zeros(2)
    reader.initialize_state(rows)
    doing = terminal.doing('evaluating', x_streams.shape[1])
    with doing as advance, chainer.no_backprop_mode(), chainer.using_config('train', False):
        for start in range(0, x_streams.shape[1] if rows else 0, args.bproplen):
            steps = slice(start, start + args.bproplen)
            x, t = (model.xp.array(s[mine, steps].T, 'i') for s in (x_streams, t_streams))
            loss, accuracy = forward(reader, x, t, args)
            sums += float(loss.array) * rows, float(accuracy) * rows
            advance(len(x))
    loss, accuracy = parallel.total(comm, sums) / x_streams.size
    return loss, accuracy, x_streams.size


def end_part(trained, learned, optimizer, progress, done, args, comm):
    """Validates, shows a sample; returns an entry (dict) of the log.

    done: how many parts of the epoch, which is long or has only one; see progress.PART.
    """
    number = trained.epoch * progress.parts + done
    trained.epoch = number // progress.parts
    epoch = number / progress.parts if number % progress.parts else trained.epoch
    entry = {'epoch': epoch, 'iteration': optimizer.t, **progress.end_part()}
    if learned.validation is not None:
        loss, accuracy, _ = evaluate(trained.model, learned.validation, args, comm)
        entry |= {'validation/main/loss': loss, 'validation/main/accuracy': accuracy}
        if not math.isfinite(loss):
            raise FloatingPointError(f'the validation loss is {loss} after step {optimizer.t}')
        if trained.best_loss is None or loss < trained.best_loss:
            trained.best_loss, trained.best_epoch = loss, epoch
    progress.show(entry, args.level)
    if args.sample_every and number % args.sample_every == 0:
        words = sample(trained, seed=number)
        if trained.kind == 'music':
            entry['sample'] = ' '.join(words)  # people are shown notes, see readable
        progress.say(f'--- after epoch {epoch:.6g} it writes ---\n{readable(words, trained)}---')
    return entry


if __name__ == '__main__':
    sys.exit(main())
