"""Lets a trained model write.

    python generate.py --start ホームズ
    python generate.py --start ホームズ --length 300 --temperature 0.7 --num 3
    python generate.py --model result/holmes --best --seed 1 --out story.txt

The text goes to stdout; which model wrote it, and the seed, to stderr.
"""
import argparse
import functools
import itertools
import math
import os
import pathlib
import sys

import numpy

import checkpoint
import corpus
import modern_chainer

import chainer
from chainer.backends import cuda


def command(main):
    """Makes a main(argv=None) report what a user can cause in one line, without traceback."""
    program = pathlib.Path(main.__code__.co_filename).name

    @functools.wraps(main)
    def wrapped(argv=None):
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, 'reconfigure'):  # Japanese also through pipes and on Windows
                stream.reconfigure(encoding='utf-8', errors='replace')
        try:
            return main(argv)
        except (corpus.CorpusError, checkpoint.CheckpointError) as error:
            message = str(error)
        except BrokenPipeError:  # the reader (| head) has had enough
            discard(sys.stdout)
            return 0
        except OSError as error:
            message = f'{error.filename or "writing"}: {error.strerror or error}'
        except MemoryError as error:
            message = f'not enough memory: {error}'
        except KeyboardInterrupt:
            return 130
        print(f'{program}: {message}', file=sys.stderr)
        return 1
    return wrapped


def discard(stream):
    """Lets all further output to a stream vanish, also what Python flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@command
def main(argv=None):
    """Runs the command with the arguments argv (list of str); returns its exit code."""
    parser = argparse.ArgumentParser(
        prog='generate.py', description='Writes text with a model that train.py has trained.')
    parser.add_argument('--start', nargs='+', default=[], metavar='WORD',
                        help='text to begin with (default: the beginning of a line)')
    parser.add_argument('--length', type=number(int, 0), default=100, metavar='N',
                        help='new words to write, the start not counted (default: 100)')
    parser.add_argument('--temperature', type=number(float, 0), default=1.0, metavar='T',
                        help='below 1 safer choices, above 1 wilder ones, 0 always the '
                             'likeliest word (default: 1.0, the learned probabilities)')
    parser.add_argument('--top-k', type=number(int, 0), default=0, metavar='K',
                        help='choose among the K likeliest words only (default: 0, all)')
    parser.add_argument('--top-p', type=number(float, 0, 1), default=1.0, metavar='P',
                        help='choose among the likeliest words that together have '
                             'probability P (default: 1.0, all)')
    parser.add_argument('--stop', metavar='WORD',
                        help='end after this word, 。 or <eos> (a line end) for instance')
    parser.add_argument('--num', type=number(int, 1), default=1, metavar='N',
                        help='texts to write, an empty line between them (default: 1)')
    parser.add_argument('--seed', type=number(int, 0, 2 ** 32 - 1),
                        help='the same seed gives the same text (default: random, and printed)')
    parser.add_argument('--wakati', action='store_true',
                        help="spaces between all words, the article's form")
    parser.add_argument('--model', metavar='PATH',
                        help='a run (folder) or a checkpoint (.npz) (default: newest in result/)')
    parser.add_argument('--best', action='store_true',
                        help='the model with the best validation instead of the last one')
    parser.add_argument('--out', metavar='FILE', help='write to this file instead of stdout')
    parser.add_argument('--gpu', type=int, default=-1, metavar='ID',
                        help='GPU to use (default: -1, the CPU, which is as fast for this)')
    args = parser.parse_args(argv)

    path = choose_checkpoint(args.model, args.best)
    model, meta = checkpoint.load(path)
    vocabulary, cut = meta['vocabulary'], meta['cut']
    start = start_words(parser, ' '.join(args.start), vocabulary, cut)
    if args.stop is not None and args.stop not in vocabulary:
        parser.exit(2, unknown_word(args.stop, vocabulary))
    seed = args.seed if args.seed is not None else int.from_bytes(os.urandom(4), 'little')
    print(f'{path}: epoch {meta["epoch"]} of a run on {meta["options"].get("corpus")}; --seed {seed}',
          file=sys.stderr)
    use_device(model, args.gpu)

    drawn = generate(model, corpus.encode(start or [corpus.EOS], vocabulary), args.length,
                     args.num, args.temperature, args.top_k, args.top_p,
                     forbidden=positions(corpus.UNK, vocabulary),
                     rng=numpy.random.RandomState(seed))
    if args.num == 1:
        texts = [(vocabulary[i] for i, in drawn)]  # written as it is drawn
    else:
        texts = [[vocabulary[int(i)] for i in ids]
                 for ids in numpy.reshape(list(drawn), (-1, args.num)).T]
    pieces = (piece for n, text in enumerate(texts) for piece in itertools.chain(
        ['\n'] if n else [], written(start, text, cut, args.wakati, args.stop)))
    if args.out:
        with checkpoint.replacing(args.out) as file:
            file.writelines(piece.encode() for piece in pieces)
    else:
        for piece in pieces:
            print(piece, end='', flush=True)
    return 0


def positions(word, vocabulary):
    """The ids (list of int) of a word: one, or none."""
    return [i for i, other in enumerate(vocabulary) if other == word]


def number(kind, low, high=None):
    """An argparse type: int or float, at least low and at most high (None: no limit)."""
    def parse(text):
        value = kind(text)
        if not (math.isfinite(value) and low <= value and (high is None or value <= high)):
            raise argparse.ArgumentTypeError(
                f'{text} is not {low} or more' if high is None else f'{text} is not from {low} to {high}')
        return value
    parse.__name__ = kind.__name__  # argparse names it in "invalid int value"
    return parse


def use_device(model, gpu):
    """Moves the model to GPU number `gpu`, or says in one line why it stays on the CPU."""
    count = modern_chainer.gpu_count()
    if gpu < 0:
        if count:
            print('a GPU is idle: --gpu 0 uses it', file=sys.stderr)
        return
    reason = f'{count} found' if count else 'none found'
    if gpu < count:
        try:
            device = chainer.get_device(f'@cupy:{gpu}')
            device.use()
            device.xp.arange(2).sum()  # does a kernel compile and run?
            model.to_device(device)
            return
        except Exception as error:  # a missing library shows in many ways
            reason = str(error).strip().split('\n')[0]
    print(f'no GPU {gpu} can be used here ({reason}): going on on the CPU', file=sys.stderr)


def choose_checkpoint(model, best):
    """The path of the checkpoint that --model and --best mean; CheckpointError if none."""
    if model is None:
        runs = checkpoint.runs()
        if not runs:
            raise checkpoint.CheckpointError(
                'no trained model below result/; train one: python train.py --corpus holmes.txt')
        path = runs[0]
    else:
        path = pathlib.Path(model)
        if path.is_dir():
            path = path / 'last.npz'
    if best:
        path = path.with_name('best.npz')
        if not path.exists():
            raise checkpoint.CheckpointError(f'{path}: no such file; only a run with validation has one')
    return path


def unknown_word(word, vocabulary):
    """The message (one line) for a word that is not in the vocabulary: it offers some that are."""
    near = corpus.near_words(word, vocabulary)
    known = near or [word for word in vocabulary if word.isalpha()][:5]
    return f'generate.py: the model does not know {word!r}; it knows {" ".join(known)}\n'


def start_words(parser, text, vocabulary, cut):
    """The words (list of str) of --start, all of them known; exits with 2 if not."""
    known = set(vocabulary)
    words = [text] if text in known else corpus.split_text(text, cut)
    if words and words[-1] == corpus.EOS and text not in known:
        words.pop()
    for word in words:
        if word not in known or word == corpus.UNK:
            parser.exit(2, unknown_word(word, vocabulary))
    return words


def generate(model, start, length, num=1, temperature=1.0, top_k=0, top_p=1.0,
             forbidden=(), rng=numpy.random):
    """Yields `length` arrays (num,) of word ids, each drawn from the model.

    start: (S,) ids, S >= 1, each fed exactly once; forbidden: ids never drawn;
    rng: a numpy.random.RandomState. See `draw` for the rest.
    """
    model.initialize_state(num)
    for i in start:
        logits = model.step([i] * num)
    for position in range(length):
        logits = numpy.array(cuda.to_cpu(logits), 'd')
        logits[:, list(forbidden)] = -numpy.inf
        ids = draw(logits, temperature, top_k, top_p, rng)
        yield ids
        if position < length - 1:
            logits = model.step(ids)


def draw(logits, temperature, top_k, top_p, rng):
    """(B,) ids drawn from softmax(logits / temperature), logits (B, n_vocab) float64.

    temperature 0 takes the largest. top_k keeps the k largest logits (0: all).
    top_p keeps the smallest set of likeliest words whose probabilities reach p
    (nucleus sampling, Holtzman et al. 2020, https://arxiv.org/abs/1904.09751).
    """
    if temperature == 0:
        return logits.argmax(axis=1)
    order = numpy.argsort(-logits, axis=1, kind='stable')
    if top_k:
        order = order[:, :top_k]
    z = numpy.take_along_axis(logits, order, axis=1)
    z = z - z[:, :1]
    with numpy.errstate(over='ignore'):  # a tiny temperature: -inf, whose exp is 0
        p = numpy.exp(z / temperature)
    p /= p.sum(axis=1, keepdims=True)
    before = numpy.cumsum(p, axis=1) - p  # what the likelier words have already
    p[before >= top_p] = 0
    p[:, 0] = numpy.maximum(p[:, 0], numpy.finfo('d').tiny)  # at least one word stays
    total = numpy.cumsum(p, axis=1)
    u = rng.uniform(size=(len(logits), 1)) * total[:, -1:]
    chosen = (total <= u).sum(axis=1)
    return order[numpy.arange(len(order)), chosen]


def written(start, new, cut, wakati=False, stop=None):
    """Yields the text (str) of the words start + new, word by word, to the first `stop` in new."""
    last = corpus.EOS
    for word in start:
        yield corpus.separator(last, word, cut, wakati) + corpus.surface(word)
        last = word
    for word in new:
        yield corpus.separator(last, word, cut, wakati) + corpus.surface(word)
        last = word
        if word == stop:
            break
    if last != corpus.EOS:
        yield '\n'


if __name__ == '__main__':
    sys.exit(main())
