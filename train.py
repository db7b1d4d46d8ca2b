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

How a text becomes mini-batches, with batchsize 3 and bproplen 4 for instance:

    words      a b c d e f g h i j k l m n o p q r s t u v
    stream 0   a b c d|e f g      Each column of a window is one step: the network
    stream 1   h i j k|l m n      reads a h o and should predict b i p. A window is
    stream 2   o p q r|s t u      one update. The LSTM state runs on from window to
               window 1|window 2  window, until the epoch ends.
"""

import argparse
import contextlib
import dataclasses
import math
import pathlib
import sys

from support import terminal

if __name__ == '__main__':
    terminal.quiet_imports()

from support import modern_chainer  # noqa: F401  prepares chainer's import

import chainer
import numpy

from generate import generate, written
from rnn import CELLS, RNN
from support import checkpoint, data, fused, music, parallel, run
from support import text as corpus
from support.checkpoint import Checkpoint
from support.progress import Progress
from support.terminal import number

# Perplexities are the best of validation on the article's book, 60,746 words, with --stepwise;
# other random numbers give others, by some units.
DEFAULTS = {
    'epoch': 40,  # Then its words are well known, the article's "well converged": perplexity 16.
    'unit': 256,  # 280; with 128 it is 297.
    'layer': 2,  # The article's; it wished for more.
    'cell': 'lstm',  # The article's.
    'batchsize': 20,  # Zaremba et al. 2014. 50 save a quarter of the time, but reach only 291.
    'bproplen': 35,  # Zaremba et al. 2014, and Chainer's ptb example.
    # The article's. Less validates better (0.3: 249, 0.2: 228, none: 211), but such models stumble
    # over a start word that they read with a fresh state, and that is how generate.py begins.
    'dropout': 0.5,
    'gradclip': 5.0,  # As in Chainer's ptb example, for the loss summed over a window.
    'optimizer': 'adam',  # The article's.
    'lr': None,  # That of OPTIMIZERS.
    'lr_decay': 1.0,  # Off, as in the article.
    'weight_decay': 0.0,  # Off; 0.1 helps characters, see docs/training.md.
    'patience': 0,  # Off: the article wants a model that knows its text; best.npz is the other.
    'val_frac': 0.05,  # Enough words for a steady figure, few enough not to be missed.
    'level': 'word',  # The article's.
    'min_count': 1,  # A small book can spare no word, and <unk> is never written.
    'vocab_size': 0,  # All words.
    'events': 'notes',  # The article's.
    'seed': 0,  # Fixed, so that two readers who compare notes see the same numbers.
    'sample_every': 5,
    'stepwise': False,  # The fused window gives the same numbers in less time.
    **dict.fromkeys(('corpus', 'midi', 'valid', 'test', 'encoding', 'track', 'transpose')),
    **dict.fromkeys(('out', 'resume')),
    'gpu': -1,
    'mpi': False,
}
# What is given with --resume replaces what was saved, except for these: they make a run what it is.
FIXED = (
    'unit',
    'layer',
    'cell',
    'batchsize',
    'bproplen',
    'optimizer',
    'seed',
    'level',
    'min_count',
)
FIXED += ('vocab_size', 'val_frac', 'valid', 'track', 'events', 'transpose')
NOT_SAVED = ('gpu', 'mpi', 'out', 'resume', 'test')  # of a start, not of a run
OPTIMIZERS = {  # with the name and a good value of their learning rate
    # 280 with 0.002 after four epochs, 282 with 0.001 after five, 303 with 0.004
    'adam': (fused.Adam, 'alpha', 0.002),
    'rmsprop': (chainer.optimizers.RMSprop, 'lr', 0.002),  # char-rnn
    'sgd': (chainer.optimizers.SGD, 'lr', 1.0),  # Zaremba et al. 2014, and Chainer's ptb example
}
AUTOSAVE = 600  # seconds between checkpoints inside a long epoch


# fmt: off
def options():
    """The argparse.ArgumentParser; what is not given on the command line is not in its result."""
    parser = argparse.ArgumentParser(
        prog='train.py',
        description="Trains the article's network on a text or on music.",
        argument_default=argparse.SUPPRESS,
    )

    def option(group, *names, help, **kwargs):
        default = DEFAULTS[names[0].strip('-').replace('-', '_')]
        shown = '' if default in (None, False) else f' (default: {default})'
        group.add_argument(*names, help=help + shown, **kwargs)

    source = parser.add_argument_group('what it learns, one of the two')
    source = source.add_mutually_exclusive_group()
    option(source, '--corpus', metavar='SOURCE', help='a text: a file, a folder of .txt, a .zip or an '
           'http(s) address; a bare name is also looked up in data/')
    option(source, '--midi', nargs='+', metavar='FILE', help='music: .mid files or folders of them; a '
           'bare name is also looked up in data/')

    group = parser.add_argument_group('how it is read')
    option(group, '--level', choices=('word', 'char'), help='what a word of a text is: a word or a '
           'character')
    option(group, '--encoding', help='encoding of the text (default: UTF-8, else Shift_JIS)')
    option(group, '--min-count', type=number(int, 1), metavar='N', help='words that occur less often '
           'become <unk>; 2 or 3 for large texts')
    option(group, '--vocab-size', type=number(int, 0), metavar='N', help='only the N most frequent '
           'words are kept, others become <unk>; 0 keeps all; 20000 for a library')
    option(group, '--track', type=music.track_option, metavar='N', help='track to learn of each MIDI '
           'file, counted from 0, or all of them, merged (default: the one with most notes)')
    option(group, '--events', choices=tuple(music.EVENTS), help='what becomes a word: notes, or '
           'performance, which also has programs, controllers, pedals and pitch bends')
    option(group, '--transpose', type=number(int, -127, 127), nargs=2, metavar=('A', 'B'), help='learn '
           'the music also transposed by A to B semitones; an epoch takes as many times longer')
    option(group, '--val-frac', type=number(float, 0, 0.9), metavar='F', help='the last part, kept for '
           'validation')
    option(group, '--valid', metavar='SOURCE', help='text or music for validation, instead of the last '
           'part')
    option(group, '--test', metavar='SOURCE', help='text or music to test the trained model on: loss, '
           'perplexity, bits per character; with --resume and no epochs left, nothing else is done')

    group = parser.add_argument_group('the network')
    option(group, '--unit', '-u', type=number(int, 1), metavar='N', help='width of the embedding and of '
           'all layers; 128 for speed, 512 for a whole shelf')
    option(group, '--layer', type=number(int, 1, 99), metavar='N', help='recurrent layers, each above '
           'the other')
    option(group, '--cell', choices=CELLS, help='LSTMs, or, with --stepwise, GRUs or the plain '
           'h = tanh(W_hh h + W_xh x)')
    option(group, '--dropout', type=number(float, 0, 0.99), metavar='P', help='share of the projections '
           'left out while training; 0.2 for the best validation, 0 for a few lines')

    group = parser.add_argument_group('training')
    option(group, '--epoch', '-e', type=number(int, 1), metavar='N', help='times to read the text')
    option(group, '--batchsize', '-b', type=number(int, 1), metavar='B', help='mini-batch: parallel '
           'streams; more are faster, fewer learn more in an epoch')
    option(group, '--bproplen', '-l', type=number(int, 1), metavar='T', help='words of a window: how far '
           'errors flow back (truncated BPTT); 50 to 100 for characters')
    option(group, '--gradclip', '-c', type=number(float, 0), metavar='NORM', help='gradient clipping: '
           'the largest global norm')
    option(group, '--optimizer', choices=OPTIMIZERS, help='what makes an update of a gradient')
    option(group, '--lr', type=number(float, 0), metavar='A', help='learning rate (default: 0.002; of '
           'sgd 1); 0.001 if the loss jumps')
    option(group, '--lr-decay', type=number(float, 0, 1), metavar='F', help='factor of the learning rate '
           'after each epoch without better validation; 0.5 is usual')
    option(group, '--weight-decay', type=number(float, 0), metavar='R', help='after each update, weights '
           'lose this share times the learning rate')
    option(group, '--patience', type=number(int, 0), metavar='N', help='stop after N epochs without '
           'better validation; 0: never')
    option(group, '--stepwise', action=argparse.BooleanOptionalAction, help="the article's loop, word "
           'by word: the same network, slower')
    option(group, '--seed', type=number(int, 0, 2**32 - 1), metavar='N', help='same seed, same machine, '
           'same result')

    group = parser.add_argument_group('this start')
    option(group, '--gpu', type=int, metavar='ID', help='GPU to use, 0 for the first; -1 is the CPU')
    option(group, '--mpi', action='store_true', help='train in all processes that mpiexec has started')
    option(group, '--sample-every', type=number(int, 0), metavar='N', help="epochs between samples of "
           "the model's writing; 0: none")
    option(group, '--out', '-o', metavar='FOLDER', help='where the run is kept (default: result/NAME)')
    option(group, '--resume', '-r', nargs='?', const='', metavar='PATH', help='go on with a run, its '
           'folder or last.npz (default: that of --out or --corpus, else the newest); its options are '
           'those of before, except those given anew')
    return parser
# fmt: on


def merged(argv, folder, comm):
    """The options (argparse.Namespace) and, with --resume, the Checkpoint to go on from, or None.

    The defaults, replaced by what an old run has saved, replaced by what is given now. The first
    process locks the folder before it reads an old run in it: no other training can change it.
    """
    parser = options()
    given = vars(parser.parse_args(argv))
    saved, path = None, None
    if 'resume' in given:
        path = run.path_to_resume(given['resume'], default_out(given))
        given.setdefault('out', path.parent)
        if not comm.rank and path.is_file() and path.parent.samefile(given['out']):
            folder.lock(path.parent)
        saved = checkpoint.load(path, training=True)
    args = argparse.Namespace(**{**DEFAULTS, **(saved.options if saved else {}), **given})
    if not args.corpus and not args.midi:
        parser.error('what shall it learn? for instance --corpus holmes.txt or --midi track1.mid')
    if args.corpus and args.midi:
        parser.error(f'{path} is a run with --{"midi" if "corpus" in given else "corpus"}')
    for name in FIXED if saved else ():
        if name in given and given[name] != saved.options[name]:
            parser.error(
                f'--{name.replace("_", "-")} is {saved.options[name]} in {path} and cannot change now'
            )
    for name in ('corpus', 'valid', 'test'):
        if given.get(name) == '':
            parser.error(f'--{name} is empty')
    for name in ('track', 'events', 'transpose') if args.corpus else ('level', 'encoding'):
        if name in given:
            parser.error(f'--{name} is for --{"midi" if args.corpus else "corpus"}')
    if args.batchsize % comm.size:
        parser.error(f'--batchsize {args.batchsize} is not a multiple of {comm.size} processes')
    args.lr = OPTIMIZERS[args.optimizer][2] if args.lr is None else args.lr
    args.out = pathlib.Path(args.out or default_out(vars(args)))
    return args, saved


def default_out(given):
    """The folder (str) that the options (dict) name: --out, or result/NAME; None if they do not."""
    source = given.get('corpus') or (given.get('midi') or [None])[0]
    return given.get('out') or source and f'result/{corpus.name_of(source)}'


def read(args, saved):
    """Reads and describes what is learned: a data.Data. CorpusError if it is not what `saved` had."""
    if saved:  # before anything is read or fetched that the old run names
        print(
            f'going on with {saved.path} after epoch {saved.epoch}, which learned from '
            f'{args.corpus or " ".join(args.midi)}'
            + (f' and is validated on {args.valid}' if args.valid else '')
        )
    learned = data.load(args)
    print(*learned.remarks, learned.describe(), sep='\n')
    if saved and (saved.vocabulary, saved.crc) != (learned.vocabulary, learned.crc):
        raise corpus.CorpusError(f'{learned.source}: not what {saved.path} was trained on')
    if learned.validation is None and (args.patience or args.lr_decay < 1):
        print('without validation --patience and --lr-decay do nothing', file=sys.stderr)
    return learned


@terminal.reporting(
    corpus.CorpusError,
    music.MusicError,
    checkpoint.CheckpointError,
    parallel.ParallelError,
    FloatingPointError,
)
def main(argv=None):
    """Runs the command with the arguments argv (list of str); returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(terminal.Screen(sys.stdout)))
        comm = stack.enter_context(parallel.processes('--mpi' in argv))
        folder = stack.enter_context(run.Folder())
        args, saved = parallel.together(comm, lambda: merged(argv, folder, comm))
        learned = parallel.together(comm, lambda: read(args, saved))
        if saved and is_done(saved, args):
            option = '--epoch' if saved.epoch >= args.epoch else '--patience'
            print(f'{saved.epoch} epochs are done already; a larger {option} goes on')
            code, last = 0, saved.path
        else:
            with parallel.ending_all(comm), run.explained(args):
                code = train(args, learned, saved, folder, comm)
            last = args.out / 'last.npz'
        if args.test and not code and not comm.rank:
            for path in (last, last.with_name('best.npz')):
                if path.exists():
                    test(path, learned, args)
        return code


def train(args, learned, saved, folder, comm):
    """The article's loop. Returns the exit code: 0, or 128 and the number of a signal.

    args: the options; learned: data.Data; saved: the Checkpoint to go on from, or None.
    """
    # Init model
    numpy.random.seed(args.seed)
    model = saved.model if saved else RNN(len(learned.vocabulary), args.unit, args.layer, args.cell)
    choose_device(model, args, comm)

    # Setup optimizer
    optimizer = setup_optimizer(model, args)

    batchsize = choose_batchsize(learned.ids, args, comm.size)
    x_streams, t_streams = streams(learned.ids, batchsize)
    mine = parallel.share(comm, batchsize)  # the streams of this process
    model.initialize_state(mine.stop - mine.start)
    trained, sums = go_on(saved, model, optimizer, learned, batchsize, args, comm)
    comm = parallel.join(comm, model, [learned.crc, x_streams.size, optimizer.t])
    if not comm.rank:
        folder.open(args.out, saved)
    windows = -(-x_streams.shape[1] // args.bproplen)  # of an epoch
    begun = trained.epoch * x_streams.size + optimizer.t % windows * batchsize * args.bproplen
    progress = Progress(args.epoch, x_streams.size, begun, sums, folder.elapsed())
    stopped = 0
    with run.Stop() as stop, progress:
        while not stopped and not is_done(trained, args):
            # Prepare mini batch
            window = optimizer.t % windows
            steps = slice(window * args.bproplen, (window + 1) * args.bproplen)
            x, t = (model.xp.array(all[mine, steps].T, 'i') for all in (x_streams, t_streams))
            if window == 0:  # the streams start again, and so does the memory
                model.initialize_state(x.shape[1])

            # Forward
            accum_loss, accum_accuracy = forward(model, x, t, args, args.dropout)

            # Backward: truncated BPTT
            model.cleargrads()
            accum_loss.backward()
            accum_loss.unchain_backward()  # the next window keeps the state, not its history
            comm.multi_node_mean_grad(model)
            optimizer.update()  # gradient clipping, then a step of Adam

            # Progress, validation, checkpoints
            means = parallel.mean(comm, [float(accum_loss.array), float(accum_accuracy)])
            progress.add(*means, len(x), len(x) * batchsize, optimizer.t)
            is_due = progress.clock - progress.last_save >= AUTOSAVE
            stopped, is_due = parallel.highest(comm, [stop.signal, is_due])
            entry = None
            if window + 1 == windows:
                entry = end_epoch(trained, learned, optimizer, progress, args, comm)
            if entry or stopped or is_due:
                save(trained, optimizer, progress, folder, args, comm, entry)
                progress.saved()
    if stopped:
        print(f'stopped; --resume goes on from {args.out / "last.npz"}', file=sys.stderr)
        return 128 + stopped
    print(f'epoch {trained.epoch} of {args.epoch} done; the run is in {args.out}')
    return 0


def is_done(trained, args):
    """Was the text read --epoch times, or --patience times without better validation (bool)?"""
    worse = trained.epoch - trained.best_epoch if trained.best_loss is not None else 0
    return trained.epoch >= args.epoch or bool(args.patience and worse >= args.patience)


def choose_device(model, args, comm):
    """Moves the model to the GPU that is this process's, if there is one; seeds the generators."""
    if comm.intra_size > 1:
        fused.share_cores(comm.intra_size)
    modern_chainer.use_device(model, args.gpu if args.gpu < 0 else args.gpu + comm.intra_rank)
    if comm.rank:  # each process has dropout of its own
        numpy.random.seed([args.seed, comm.rank])
    if model.xp is not numpy:
        model.xp.random.seed(args.seed + (comm.rank << 32))


def setup_optimizer(model, args):
    """The optimizer (chainer.Optimizer) of the model, with gradient clipping and weight decay."""
    kind, learning_rate, _ = OPTIMIZERS[args.optimizer]
    optimizer = kind(args.lr)
    optimizer.setup(model)
    optimizer.add_hook(chainer.optimizer_hooks.GradientClipping(args.gradclip))

    # Not chainer's WeightDecay, whose gradient Adam would divide by the size of the others
    # (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101).
    def weight_decay(optimizer):
        for param in model.params():
            param.array *= 1 - getattr(optimizer, learning_rate) * args.weight_decay

    if args.weight_decay:
        optimizer.add_hook(weight_decay, timing='post')
    return optimizer


def choose_batchsize(ids, args, processes=1):
    """The number of streams: --batchsize, or fewer, of one window each, if the ids (N,) are few."""
    batchsize = min(args.batchsize, max(1, (len(ids) - 1) // args.bproplen))
    batchsize -= batchsize % processes
    if not batchsize:
        raise corpus.CorpusError(f'the text is too short for {processes} processes')
    return batchsize


def streams(ids, batchsize):
    """Cuts ids (N,) into parallel streams: x and t, two (B, L) views; t is the word after each x.

    The last words, fewer than there are streams, are left out.
    """
    length = (len(ids) - 1) // batchsize
    size = batchsize * length
    return ids[:size].reshape(batchsize, length), ids[1 : size + 1].reshape(batchsize, length)


def forward(model, x, t, args, dropout_ratio=0.0):
    """Reads a window, x and t (T, B) int32 ids, and moves the state of the model on.

    Returns the sums over the T steps of the loss, a scalar Variable (nats), and of the accuracy.
    """
    if not args.stepwise and model.cell == 'lstm':
        return fused.forward(model, x, t, dropout_ratio)
    accum_loss = accum_accuracy = 0  # the article's way, word by word
    for x_step, t_step in zip(x, t):
        loss, accuracy = model.forward(x_step, t_step, dropout_ratio)
        accum_loss += loss
        accum_accuracy += accuracy.array
    return accum_loss, accum_accuracy


def evaluate(model, ids, args, comm=parallel.ALONE):
    """Loss (nats) and accuracy per word of ids (N,), read in parallel streams from a fresh state.

    Returns (loss, accuracy, number of words), the same in all processes. The model keeps its own
    state. Dropout is off. Words that fill no stream, fewer than there are streams, are left out.
    """
    reader = model.copy()  # the same weights, a state of its own
    x_streams, t_streams = streams(ids, choose_batchsize(ids, args))
    mine = parallel.share(comm, len(x_streams))  # of few streams, some processes have none
    rows = mine.stop - mine.start
    reader.initialize_state(rows)
    sums = numpy.zeros(2)
    with chainer.no_backprop_mode(), chainer.using_config('train', False):
        for start in range(0, x_streams.shape[1] if rows else 0, args.bproplen):
            steps = slice(start, start + args.bproplen)
            x, t = (model.xp.array(all[mine, steps].T, 'i') for all in (x_streams, t_streams))
            loss, accuracy = forward(reader, x, t, args)
            sums += float(loss.array) * rows, float(accuracy) * rows
    return *(parallel.total(comm, sums) / x_streams.size), x_streams.size


def end_epoch(trained, learned, optimizer, progress, args, comm):
    """Validates, lowers the learning rate, writes a sample; returns the epoch for the log (dict)."""
    trained.epoch += 1
    entry = {'epoch': trained.epoch, 'iteration': optimizer.t, **progress.end_epoch()}
    if learned.validation is not None:
        loss, accuracy, _ = evaluate(trained.model, learned.validation, args, comm)
        entry |= {'validation/main/loss': loss, 'validation/main/accuracy': accuracy}
        if trained.best_loss is None or loss < trained.best_loss:
            trained.best_loss, trained.best_epoch = loss, trained.epoch
        elif args.lr_decay < 1:
            args.lr *= args.lr_decay
            setattr(optimizer, OPTIMIZERS[args.optimizer][1], args.lr)
            progress.say(f'no better validation: the learning rate is {args.lr:.3g} now')
    for name, short in (('main/loss', ''), ('validation/main/loss', 'val_')):
        if name in entry and args.level == 'char':
            entry[short + 'bpc'] = entry[name] / math.log(2)
        elif name in entry:
            entry[short + 'perplexity'] = math.exp(min(entry[name], 700))  # exp(710) overflows
    progress.show(entry)
    if args.sample_every and trained.epoch % args.sample_every == 0 and not comm.rank:
        progress.say(f'--- after epoch {trained.epoch} it writes ---\n{sample(trained)}---')
    return entry


def sample(trained):
    """A text (str) of 60 words that the model writes; the same for the same epoch."""
    vocabulary = trained.vocabulary
    start = [vocabulary.index(corpus.EOS)]
    rng = numpy.random.RandomState(trained.epoch)
    forbidden = [i for i, word in enumerate(vocabulary) if word == corpus.UNK]
    drawn = generate(trained.model.copy(), start, 60, forbidden=forbidden, rng=rng)
    try:
        return ''.join(written([], (vocabulary[i] for (i,) in drawn), trained.tokenizer))
    except FloatingPointError as error:  # only the first of several processes would know
        return f'nothing: {error}\n'


def go_on(saved, model, optimizer, learned, batchsize, args, comm):
    """The Checkpoint of this training, and the sums (3,) of its epoch, that a `saved` one left."""
    about = {
        name: getattr(learned, name) for name in ('kind', 'vocabulary', 'tokenizer', 'setup', 'crc')
    }
    trained = Checkpoint(model, options={}, **about)
    if not saved:
        return trained, numpy.zeros(3)
    trained.epoch, trained.best_epoch = saved.epoch, saved.best_epoch
    trained.best_loss = saved.best_loss
    return trained, checkpoint.restore(saved, model, optimizer, batchsize, comm)


def save(trained, optimizer, progress, folder, args, comm, entry):
    """Writes checkpoints, log and curve; entry (dict or None): the epoch that ends here.

    All processes call it, the first one writes. FloatingPointError if a number is none any more.
    """
    trained.training = checkpoint.training_state(trained.model, optimizer, progress.sums, comm)
    trained.options = {name: value for name, value in vars(args).items() if name not in NOT_SAVED}
    xp = trained.model.xp
    if not (
        all(map(math.isfinite, (entry or {}).values()))
        and all(numpy.isfinite(array).all() for array in trained.training.values())
        and all(xp.isfinite(param.array).all() for param in trained.model.params())
    ):
        raise FloatingPointError(
            f'weights or losses are no numbers any more after step {optimizer.t}'
        )
    if comm.rank:
        return
    if entry:
        folder.add(entry)  # before the checkpoint: what is too much in the log can be cut
    if entry and trained.best_epoch == trained.epoch:
        checkpoint.save(args.out / 'best.npz', dataclasses.replace(trained, training={}))
    checkpoint.save(args.out / 'last.npz', trained)
    if entry:
        folder.draw()


def test(path, learned, args):
    """Prints what the model at `path` makes of the words of --test, which it has not learned.

    Words that it does not know are <unk> to it or, if it has learned none, left out. CorpusError
    if it knows none of them, FloatingPointError if the loss is no number.
    """
    model, vocabulary = (tested := checkpoint.load(path)).model, tested.vocabulary
    modern_chainer.use_device(model, args.gpu)
    known, words = set(vocabulary), learned.test
    if corpus.UNK not in known:
        words = [word for word in words if word in known]
    if not words:
        raise corpus.CorpusError(f'{args.test}: the model knows none of its words')
    ids = corpus.encode([corpus.EOS, *words], vocabulary)
    with run.no_warnings():
        loss, _, n = evaluate(model, ids, args)
    if not math.isfinite(loss):
        raise FloatingPointError(
            f'{path}: the weights of the model are so large that the loss is {loss}'
        )
    line = f'{args.test} under {path} (epoch {tested.epoch}): loss {loss:.4f} nats per word, '
    line += f'perplexity {math.exp(min(loss, 700)):.4g}'
    if tested.kind == 'text':  # of what it could name: to say <unk> is easier than to spell a word
        named = [word for word in words[:n] if word in known and word != corpus.UNK]
        characters = max(1, len(corpus.join(named, tested.tokenizer)))
        line += f', {loss * n / math.log(2) / characters:.4f} bits per character'
    line += f'; {n:,} words'
    unknown = sum(word not in known for word in learned.test)
    if len(words) < len(learned.test):
        line += f'; {unknown:,} more words that it does not know, left out'
    elif unknown:
        line += f', of which {unknown:,} are {corpus.UNK} to it'
    print(line)


if __name__ == '__main__':
    sys.exit(main())
