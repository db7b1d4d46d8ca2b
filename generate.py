"""Lets a trained model write a text, or compose.

    python generate.py --start ホームズ
    python generate.py --start ホームズ --length 300 --temperature 0.7 --num 3
    python generate.py --model result/holmes --best --seed 1 --out story.txt
    python generate.py --start ホームズ --why page.html
    python generate.py --near ホームズ
    python generate.py --midi out.mid --audio out.mp3 --plot out.png
    python generate.py --midi out.mid --start C4
    python generate.py --midi out.mid --primer FILE.mid --no-primer

The text goes to stdout; which model wrote it, and the seed, to stderr.
"""

import contextlib
import functools
import itertools
import os
import pathlib
import re
import sys

from support import terminal

if __name__ == '__main__':
    terminal.quiet_imports()

from support import modern_chainer  # prepares chainer's import

import numpy
from chainer.backends import cuda

from read_midi import Setup, parts
from support import checkpoint, music, why
from support.start import PRIMER, start_words, unknown_word
from support.terminal import WrongUse, number
from support.text import EOS, UNK, compose, detokenize_stream, encode
from write_midi import to_data, write_midi

NEAR = 10  # words that --near lists
DEFAULT_LENGTH = {'text': 100, 'music': 500}
DRAWING = {  # the defaults of how words are drawn
    # To a judge nearly as likely as real sentences, docs/training.md, "What was measured".
    'text': {'temperature': 1.0, 'top_k': 0, 'top_p': 0.95},
    'music': {'temperature': 0.7, 'top_k': 0, 'top_p': 1.0},  # docs/music.md has the figures
}
ENDINGS = {  # of the files that are written, by option
    'midi': ('.mid', '.midi'),
    'audio': ('.wav', '.flac', '.ogg', '.mp3'),
    'wav': ('.wav',),
    'plot': ('.png',),
    'why': ('.html', '.htm'),
    'out': (),  # any
}
MUSIC = ('midi', 'audio', 'wav', 'plot')  # those that are composed


# fmt: off
def options():
    """The argparse.ArgumentParser of this program."""
    parser = terminal.Parser(
        prog='generate.py',
        description='Writes a text or music with a model that train.py has trained.')
    option = parser.add_argument_group('what is written').add_argument
    option('--start', nargs='+', default=[], metavar='WORD', help='words that begin a line; of '
           'music a pseudo-word or a pitch, C4, that begins a piece (default: none)')
    option('--length', type=number(int, 0), metavar='N', help='new words to write, the start not '
           'counted (default: 100; of music 500 at most, about 250 notes)')
    option('--stop', metavar='WORD', help='end after this word, 。 or <eos> (a line end)')
    option('--num', type=number(int, 1), default=1, metavar='N', help='texts to write, an empty '
           'line between them; of music out-1.mid, out-2.mid, ... (default: 1)')
    option('--wakati', action='store_true', help="spaces between all words, the article's form")
    option('--out', metavar='FILE', help='write the text to this file instead of stdout')
    option('--why', nargs='?', const='-', metavar='FILE', help='print a table instead of the text: '
           'the probability of each word, those of --start too, and its likeliest rivals; or '
           'write them as a page, a .html')
    option('--near', metavar='WORD', help=f'list the {NEAR} words that the model takes to be most '
           'like this one, and write nothing')

    option = parser.add_argument_group('music').add_argument
    option('--midi', metavar='FILE', help='compose, and write the music to this .mid')
    option('--audio', metavar='FILE', help='compose, and write the sound to this .wav, .flac, .ogg '
           'or .mp3')
    option('--wav', metavar='FILE', help='compose, and write the sound to this .wav')
    option('--soundfont', metavar='FILE', help='instruments of the sound, an .sf2 (default: '
           'TimGM6mb.sf2, a small one)')
    option('--plot', metavar='FILE', help='compose, and draw a piano roll: a .png')
    option('--primer', metavar='FILE', help=f'begin with the first {PRIMER} words of this .mid')
    option('--no-primer', action='store_true', help='leave the primer out of the result')
    option('--bpm', type=number(float, 4, 1000), metavar='N', help='quarters per minute (default: '
           'those of the source for most of its length); changes of tempo are left out then')

    option = parser.add_argument_group('how words are drawn').add_argument
    option('--temperature', type=number(float, 0), metavar='T', help='below 1 safer choices, above '
           '1 wilder ones, 0 always the likeliest word (default: 1.0; of music 0.7)')
    option('--top-k', type=number(int, 0), default=0, metavar='K', help='choose among the K '
           'likeliest words only; 40 against nonsense (default: 0, all)')
    option('--top-p', type=number(float, 0, 1), metavar='P', help='choose among the likeliest '
           'words that together have probability P (default: of a text 0.95, of music 1, all)')
    option('--seed', type=number(int, 0, 2**32 - 1), help='the same seed gives the same text '
           '(default: random, and printed)')

    option = parser.add_argument_group('the model').add_argument
    option('--model', metavar='PATH', help='a run (folder) or a checkpoint (.npz) (default: the '
           'newest in result/ of the kind)')
    option('--best', action='store_true', help='the model with the best validation instead of the '
           'last one: fewer quotations of a small text')
    option('--gpu', type=int, default=-1, metavar='ID', help='GPU to use (default: -1, the CPU, '
           'which is as fast for this)')
    return parser
# fmt: on


@terminal.reporting
def main(argv=None):
    """Runs the command with the arguments argv (list of str); returns its exit code."""
    parser = options()
    args = parser.parse_args(argv)
    kind = 'music' if any(getattr(args, option) is not None for option in MUSIC) else 'text'
    check(parser, args, kind)
    check_files(parser, args)
    for name, usual in {'length': DEFAULT_LENGTH[kind], **DRAWING[kind]}.items():
        if getattr(args, name) is None:
            setattr(args, name, usual)
    path = checkpoint.find(args.model, args.best, kind)
    saved = checkpoint.load(path)
    if args.near is not None:
        return list_near(saved, args)
    vocabulary = saved.vocabulary
    check_model(saved, kind, args)
    start = start_words(args.start, args.primer, saved)
    # A line end first: the network hardly knows an empty memory, and what it would say after its
    # first word is close to chance (docs/training.md, "What was measured").
    read = start if start[:1] == [EOS] else [EOS, *start]
    shown = [] if args.no_primer else start
    if args.stop is not None and args.stop not in vocabulary:
        raise unknown_word(args.stop, vocabulary)
    seed = int.from_bytes(os.urandom(4), 'little') if args.seed is None else args.seed
    print(f'{path}: epoch {saved.epoch}; --seed {seed}', file=sys.stderr)
    with terminal.doing('preparing the network'):
        modern_chainer.use_device(saved.model, args.gpu)

    drawn = generate(
        saved.model,
        encode(read, vocabulary),
        args.length,
        args.num,
        args.temperature,
        args.top_k,
        args.top_p,
        forbidden=ids_of(UNK, saved),
        rng=numpy.random.RandomState(seed),
    )
    if kind == 'text' and args.num == 1 and not args.why:
        words = (vocabulary[i] for (i,) in drawn)
        texts = [up_to(words, args.stop)]  # written as it is drawn
    else:
        ends = {args.stop, EOS} if kind == 'music' else {args.stop}
        with terminal.doing('drawing words', args.length) as advance:
            texts = whole_texts(drawn, args.num, vocabulary, ends, advance)
    code = 0
    if kind == 'music':
        code = save_music(shown, texts, saved.setup, args)
    elif args.out or args.why != '-':
        save_text(shown, texts, saved.tokenizer, args)
    if args.why:
        save_why(saved, read, shown, texts, args)
    return code


def generate(
    model, start, length, num=1, temperature=1.0, top_k=0, top_p=1.0, forbidden=(), rng=numpy.random
):
    """Yields `length` arrays (num,) of word ids, each drawn from the model.

    start: (S,) ids, S >= 1, each fed exactly once; forbidden: ids never drawn;
    rng: a numpy.random.RandomState; temperature, top_k, top_p: see `draw`. FloatingPointError if
    the weights of the model are so large that its logits are no numbers.
    """

    model.initialize_state(num)
    for i in start:
        logits = step(model, [i] * num)
    for position in range(length):
        logits[:, list(forbidden)] = -numpy.inf
        ids = draw(logits, temperature, top_k, top_p, rng)
        yield ids
        if position < length - 1:
            logits = step(model, ids)


def whole_texts(drawn, num, vocabulary, ends, advance):
    """The num texts (lists of words) that `generate` draws, each to the first word in ends (set).

    advance(1) is called after each word of all.
    """
    texts = [[] for _ in range(num)]
    for ids in drawn:
        for text, i in zip(texts, ids):
            if not ends.intersection(text[-1:]):
                text.append(vocabulary[i])
        if all(ends.intersection(text[-1:]) for text in texts):
            break
        advance(1)
    return texts


def step(model, ids):
    """What `model.step` returns, (B, n_vocab), as float64 on the CPU; FloatingPointError."""
    with numpy.errstate(over='ignore', invalid='ignore'):
        logits = numpy.array(cuda.to_cpu(model.step(ids)), 'd')
    if not numpy.isfinite(logits).all():
        raise FloatingPointError(
            'the weights of the model are so large that its logits are no numbers'
        )
    return logits


def draw(logits, temperature, top_k, top_p, rng):
    """(B,) ids drawn from softmax(logits / temperature), logits (B, n_vocab) float64.

    temperature 0 takes the largest. top_k keeps the k largest logits (0: all).
    top_p keeps the smallest set of likeliest words whose probabilities reach p
    (nucleus sampling, Holtzman et al. 2020, https://arxiv.org/abs/1904.09751).
    """
    if temperature == 0:
        return logits.argmax(axis=1)
    order = None
    if top_k or top_p < 1:  # sorting is most of the work
        order = numpy.argsort(-logits, axis=1, kind='stable')[:, : top_k or None]
        logits = numpy.take_along_axis(logits, order, axis=1)
    with numpy.errstate(over='ignore'):  # a tiny temperature: -inf, whose exp is 0
        p = numpy.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    total = numpy.cumsum(p, axis=1)
    if top_p < 1:
        p[total - p >= top_p * total[:, -1:]] = 0  # what the likelier words have is enough
        p[:, 0] = numpy.maximum(p[:, 0], numpy.finfo('d').tiny)  # at least one word stays
        total = numpy.cumsum(p, axis=1)
    u = rng.uniform(size=len(p)) * total[:, -1]
    chosen = numpy.array([numpy.searchsorted(row, x, side='right') for row, x in zip(total, u)])
    return chosen if order is None else order[numpy.arange(len(order)), chosen]


@terminal.doing('writing a sample')
def sample(saved, length=60, seed=0):
    """`length` words (list of str) that a trained model (Checkpoint) writes, from a line's start.

    An empty list if its weights are too large: training finds that out by itself.
    """
    start, forbidden = encode([EOS], saved.vocabulary), ids_of(UNK, saved)
    rng, model = numpy.random.RandomState(seed), saved.model.copy()
    drawn = generate(model, start, length, **DRAWING[saved.kind], forbidden=forbidden, rng=rng)
    with contextlib.suppress(FloatingPointError):
        return [saved.vocabulary[i] for (i,) in drawn]
    return []


def readable(words, saved):
    """Words as a person reads them (str): a text, or the notes of a piece, A4 1/8, C5 1/4."""
    if saved.kind == 'text':
        return ''.join(written(words, saved.tokenizer))
    from support import sound  # late: see save_music

    pieces = [[*piece] for end, piece in itertools.groupby(words, EOS.__eq__) if not end]
    setup = Setup.from_dict(saved.setup)
    lines = (sound.line_of(to_data(piece, setup)) for piece in pieces)
    return ''.join(f'{line}\n' for line in lines if line)


def ids_of(word, saved):
    """The ids (list of int) of a word: one, or none."""
    return [i for i, other in enumerate(saved.vocabulary) if other == word]


def written(words, tokenizer, wakati=False):
    """Yields the text (str) of words, word by word."""
    text = '\n'
    for text in detokenize_stream(words, tokenizer, wakati):
        yield text
    if text != '\n':
        yield '\n'


def up_to(words, stop):
    """Yields the words to the first `stop`, which is the last of them."""
    for word in words:
        yield word
        if word == stop:
            break


def save_text(start, texts, tokenizer, args):
    """Writes texts (lists of words), each after the words `start`, to --out or stdout."""

    def pieces():
        for n, text in enumerate(texts):
            if n:
                yield '\n'
            yield from written(itertools.chain(start, text), tokenizer, args.wakati)

    if args.out:
        doing = terminal.doing('writing', args.length * args.num)
        with terminal.telling_older(args.out), doing as advance:
            with terminal.replacing(args.out) as file:
                for piece in pieces():
                    file.write(piece.encode())
                    advance(1)
    else:
        for piece in pieces():
            print(piece, end='', flush=True)


def save_music(start, texts, setup, args):
    """Writes pieces (lists of words), each after the words `start`, to the files of MUSIC.

    A piece ends at its first EOS. Returns the exit code: 1 if there is a piece without a note,
    which is left out.
    """
    setup, pieces = Setup.from_dict(setup), []
    with terminal.doing('composing'):
        from support import sound  # late: matplotlib takes 0.4 s, and a text need not wait for it

        for text in texts:
            words = [*start, *itertools.takewhile(EOS.__ne__, text)]
            if args.bpm is not None:
                words, setup = music.at_tempo(words, setup, args.bpm)
            pieces.append(to_data(words, setup, composed=True))
    counts = [sum(part.notes for part in parts(data)) for data in pieces]
    silent = [n for n, count in enumerate(counts, 1) if not count]
    for n in silent:
        terminal.complain(
            'generate.py',
            f'the model ended piece {n} before its first note; '
            'try another --seed or a larger --length',
        )
    write_audio = functools.partial(sound.write_audio, soundfont=args.soundfont)
    writers = {'midi': write_midi, 'audio': write_audio, 'wav': write_audio}
    writers['plot'] = sound.write_png
    for option, n, path in targets(args):
        if option in writers and n not in silent:
            with terminal.telling_older(path), terminal.doing(f'writing --{option}'):
                writers[option](pieces[n - 1], path)
            notes = f'{counts[n - 1]} note' + 's' * (counts[n - 1] > 1)
            print(f'{path}: {notes}', file=sys.stderr)
    return 1 if silent else 0


def save_why(saved, read, shown, texts, args):
    """Prints a table of each text (list of words), or writes the page.

    read: the words that the model read before it drew; shown: the last of these, which belong to
    the text.
    """
    unseen, given = read[: len(read) - len(shown)], len(shown)

    def counted_step(model, ids):
        advance(1)
        return step(model, ids)

    with terminal.doing('explaining', sum(len(read) + len(text) for text in texts)) as advance:
        explained = [
            why.explain(saved, counted_step, unseen, [*shown, *text], given, args.wakati)
            for text in texts
        ]
    drawn_with = ' '.join(
        f'--{name.replace("_", "-")} {getattr(args, name):g}'
        for name, usual in DRAWING[saved.kind].items()
        if getattr(args, name) != usual
    )
    if args.why == '-':
        print('\n'.join(why.table(words, drawn_with) for words in explained), end='')
        return
    about = f'{saved.path}, epoch {saved.epoch}'
    page = why.page(explained, about, len(saved.vocabulary), drawn_with)
    with terminal.telling_older(args.why), terminal.replacing(args.why) as file:
        file.write(page.encode())


def outputs(args):
    """The files to write as they are named: dict of option to name (str)."""
    names = {option: getattr(args, option) for option in ENDINGS}
    if args.why == '-':  # a table, not a file
        del names['why']
    return {option: name for option, name in names.items() if name is not None}


def targets(args):
    """Yields (option, n, pathlib.Path) of the files to write: of --num pieces, the n-th, from 1."""
    for option, name in outputs(args).items():
        path, num = pathlib.Path(name), args.num if option in MUSIC else 1
        for n in range(1, num + 1):
            yield option, n, path if num == 1 else path.with_stem(f'{path.stem}-{n}')


def check(parser, args, kind):
    """Refuses options that do not go together; kind: 'text' or 'music'."""
    others = {*vars(args)} - {'near', 'model', 'best'}
    if args.near is not None and any(getattr(args, o) != parser.get_default(o) for o in others):
        parser.error('--near lists words and writes nothing; it goes with --model and --best only')
    if args.near == '':
        parser.error('--near is empty')
    for word in (*args.start, args.near or '', args.stop or ''):
        if re.search('[\ud800-\udfff]', word):
            raise WrongUse(
                f'{word!r} is not UTF-8: set the terminal to UTF-8 (LANG, or chcp 65001)'
            )
    args.start = [compose(word) for word in args.start]
    args.near, args.stop = (word and compose(word) for word in (args.near, args.stop))
    if '' in args.start:
        parser.error('--start is empty')
    if args.primer and os.path.isdir(args.primer):
        parser.error(f'--primer {args.primer!r} is a folder; it takes one .mid')
    if args.primer and kind == 'text':
        parser.error('--primer begins music; where shall it go? for instance --midi out.mid')
    if kind == 'music' and (args.out or args.wakati):
        parser.error('--out and --wakati are for text')
    if args.out and args.out.endswith('.npz'):
        parser.error(f'--out {args.out!r} is the name of a checkpoint')
    if args.primer and args.start:
        parser.error('--primer and --start: one beginning is enough')
    if args.no_primer and not args.primer:
        parser.error('--no-primer without --primer')
    if args.bpm is not None and kind == 'text':
        parser.error('--bpm is for music')
    if args.soundfont and not (args.audio or args.wav):
        parser.error('--soundfont is for the sound: --audio out.mp3 or --wav out.wav')
    if args.soundfont and not os.path.isfile(args.soundfont):
        parser.error(f'--soundfont {args.soundfont!r}: no such file')
    if args.why and args.length == 0 and not (args.start or args.primer):
        parser.error('--why --length 0 explains the words of --start: which are they?')


def check_files(parser, args):
    """Refuses names that no file can have, those of inputs or of a run, and one name twice."""
    for option, name in outputs(args).items():
        path, endings = pathlib.Path(name), ENDINGS[option]
        if not path.name or path.is_dir():
            parser.error(f'--{option} {name!r} is not the name of a file')
        unclear = path.suffix or option in ('audio', 'why')
        if endings and unclear and path.suffix.lower() not in endings:
            endings = ' or '.join(endings)
            parser.error(f'--{option} {name!r}: its name should end in {endings}')
        if not path.parent.is_dir():
            parser.error(f'--{option} {name!r}: there is no folder {path.parent}')
    paths = [path for _, _, path in targets(args)]
    for path in paths:
        if path.name in checkpoint.FILES and path.with_name('last.npz').exists():
            parser.error(f'{path} belongs to a run of train.py; take another name')
    files = [os.path.realpath(name) for name in (*paths, args.primer, args.soundfont) if name]
    if len(set(files)) < len(files):
        options = '--out, --why, --midi, --audio, --wav, --plot, --primer and --soundfont'
        parser.error(f'{options}: each needs a file of its own')


def check_model(saved, kind, args):
    """Refuses a Checkpoint that has learned a file to write over, or that writes no such kind."""
    learned = {file_id(path) for path in saved.sources} - {None}
    for option, _, path in targets(args):
        if file_id(path) in learned:
            raise WrongUse(f'--{option} {path}: the model has learned this file; take another name')
    if saved.kind != kind:
        advice = '--midi out.mid composes'
        if kind == 'music':
            advice = 'leave out --midi, --audio, --wav and --plot'
        raise WrongUse(f'{saved.path} is a model of {saved.kind}, not of {kind}: {advice}')
    if EOS not in saved.vocabulary:
        raise checkpoint.CheckpointError(f'{saved.path}: its vocabulary has no {EOS}')


def file_id(path):
    """What a file is on this machine, by whatever name or link; None if there is none."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return None
    return stat.st_dev, stat.st_ino


def list_near(saved, args):
    """Prints the words nearest to --near, the nearest first, with the cosines; the exit code."""
    words = [args.near]
    if args.near not in saved.vocabulary:
        words = start_words(words, None, saved)
    if len(words) != 1:
        found = f'not one word to the model but {len(words)}: {" ".join(words)}'
        raise WrongUse(f'--near {args.near!r} is {found}'.rstrip(': '))
    with terminal.doing('comparing words'):
        W = saved.model.l0.W.array.astype('d')
        row = saved.vocabulary.index(words[0])
        length = numpy.linalg.norm(W, axis=1)
        cosines = W @ W[row] / numpy.maximum(length * length[row], numpy.finfo('d').tiny)
        order = [i for i in numpy.argsort(-cosines, kind='stable') if i != row]
    for i in order[:NEAR]:
        print(f'{cosines[i]:6.3f}  {saved.vocabulary[i]}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
