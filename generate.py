"""Lets a trained model write a text, or compose.

    python generate.py --start ホームズ
    python generate.py --start ホームズ --length 300 --temperature 0.7 --num 3
    python generate.py --model result/holmes --best --seed 1 --out story.txt
    python generate.py --near ホームズ
    python generate.py --midi out.mid --wav out.wav --plot out.png
    python generate.py --midi out.mid --start C4
    python generate.py --midi out.mid --primer FILE.mid --no-primer

The text goes to stdout; which model wrote it, and the seed, to stderr.
"""

import argparse
import itertools
import os
import pathlib
import sys

from support import terminal

if __name__ == '__main__':
    terminal.quiet_imports()

import numpy

from support import checkpoint
from support import text as corpus
from support import modern_chainer
from support import music
from support.terminal import number
import read_midi
from write_midi import to_data, write_midi

import chainer
from chainer.backends import cuda

PRIMER = 16  # words of a --primer that are read
NEAR = 10  # words that --near lists


@terminal.reporting(
    corpus.CorpusError, read_midi.MusicError, checkpoint.CheckpointError, FloatingPointError
)
def main(argv=None):
    """Runs the command with the arguments argv (list of str); returns its exit code."""
    parser = argparse.ArgumentParser(
        prog='generate.py',
        description='Writes a text or music with a model that train.py has trained.',
    )
    parser.add_argument(
        '--start',
        nargs='+',
        default=[],
        metavar='WORD',
        help='words to begin with; for music a pseudo-word or a pitch, C4 (default: '
        'the beginning of a line or piece)',
    )
    parser.add_argument(
        '--length',
        type=number(int, 0),
        metavar='N',
        help='new words to write, the start not counted (default: 100; music: 500 '
        'at most, about 250 notes)',
    )
    parser.add_argument(
        '--temperature',
        type=number(float, 0),
        default=1.0,
        metavar='T',
        help='below 1 safer choices, above 1 wilder ones, 0 always the '
        'likeliest word (default: 1.0, the learned probabilities)',
    )
    parser.add_argument(
        '--top-k',
        type=number(int, 0),
        default=0,
        metavar='K',
        help='choose among the K likeliest words only (default: 0, all)',
    )
    parser.add_argument(
        '--top-p',
        type=number(float, 0, 1),
        default=1.0,
        metavar='P',
        help='choose among the likeliest words that together have '
        'probability P (default: 1.0, all)',
    )
    parser.add_argument(
        '--stop', metavar='WORD', help='end after this word, 。 or <eos> (a line end) for instance'
    )
    parser.add_argument(
        '--num',
        type=number(int, 1),
        default=1,
        metavar='N',
        help='texts to write, an empty line between them; of music out-1.mid, '
        'out-2.mid, ... (default: 1)',
    )
    parser.add_argument(
        '--seed',
        type=number(int, 0, 2**32 - 1),
        help='the same seed gives the same text (default: random, and printed)',
    )
    parser.add_argument(
        '--wakati', action='store_true', help="spaces between all words, the article's form"
    )
    parser.add_argument('--midi', metavar='FILE', help='compose, and write the music to this .mid')
    parser.add_argument('--wav', metavar='FILE', help='compose, and write the sound to this .wav')
    parser.add_argument('--plot', metavar='FILE', help='compose, and draw a piano roll: a .png')
    parser.add_argument(
        '--primer', metavar='FILE', help=f'begin with the first {PRIMER} words of this .mid'
    )
    parser.add_argument(
        '--no-primer', action='store_true', help='leave the primer out of the result'
    )
    parser.add_argument(
        '--near',
        metavar='WORD',
        help=f'list the {NEAR} words that the model takes to be most like this one, and write nothing',
    )
    parser.add_argument(
        '--model',
        metavar='PATH',
        help='a run (folder) or a checkpoint (.npz) (default: newest in result/ of the kind)',
    )
    parser.add_argument(
        '--best',
        action='store_true',
        help='the model with the best validation instead of the last one',
    )
    parser.add_argument(
        '--out', metavar='FILE', help='write the text to this file instead of stdout'
    )
    parser.add_argument(
        '--gpu',
        type=int,
        default=-1,
        metavar='ID',
        help='GPU to use (default: -1, the CPU, which is as fast for this)',
    )
    args = parser.parse_args(argv)
    outputs = [name for name in (args.midi, args.wav, args.plot) if name is not None]
    kind = 'music' if outputs else 'text'
    check(parser, args, outputs)

    path = choose_checkpoint(args.model, args.best, kind)
    model, meta = checkpoint.load(path)
    if args.near is not None:
        return list_near(model, meta, args)
    if meta['kind'] != kind:
        refuse(
            f'{path} is a model of {meta["kind"]}, not of {kind}: '
            + (
                'leave out --midi, --wav and --plot'
                if kind == 'music'
                else 'it writes with --midi out.mid'
            )
        )
    if corpus.EOS not in meta['vocabulary']:
        raise checkpoint.CheckpointError(f'{path}: its vocabulary has no {corpus.EOS}')
    vocabulary = meta['vocabulary']
    start = (start_music if kind == 'music' else start_text)(args, meta)
    if args.stop is not None and args.stop not in vocabulary:
        refuse(unknown_word(args.stop, vocabulary))
    seed = args.seed if args.seed is not None else int.from_bytes(os.urandom(4), 'little')
    print(f'{path}: epoch {meta["epoch"]}; --seed {seed}', file=sys.stderr)
    use_device(model, args.gpu)

    length = args.length if args.length is not None else 500 if kind == 'music' else 100
    drawn = generate(
        model,
        corpus.encode(start or [corpus.EOS], vocabulary),
        length,
        args.num,
        args.temperature,
        args.top_k,
        args.top_p,
        forbidden=positions(corpus.UNK, vocabulary),
        rng=numpy.random.RandomState(seed),
    )
    if args.num == 1:
        texts = [(vocabulary[i] for (i,) in drawn)]  # written as it is drawn
    else:
        texts = [
            [vocabulary[int(i)] for i in ids]
            for ids in numpy.reshape(list(drawn), (-1, args.num)).T
        ]
    if kind == 'music':
        return save_music([] if args.no_primer else start, texts, meta['music'], args)
    write_text(start, texts, meta['cut'], args)
    return 0


def check(parser, args, outputs):
    """Refuses options that do not go together; outputs: the names (list of str) of music to write."""
    if args.near is not None and (outputs or args.start or args.primer or args.out):
        parser.error('--near lists words and writes nothing; it goes with --model and --best only')
    if args.near == '':
        parser.error('--near is empty')
    if args.primer and not outputs:
        parser.error('--primer begins music; where shall it go? for instance --midi out.mid')
    if outputs and (args.out or args.wakati):
        parser.error('--out and --wakati are for text')
    if args.out and args.out.endswith('.npz'):
        parser.error(f'--out {args.out!r} is the name of a checkpoint')
    if args.primer and args.start:
        parser.error('--primer and --start: one beginning is enough')
    if args.no_primer and not args.primer:
        parser.error('--no-primer without --primer')
    for option, endings in (('midi', ('.mid', '.midi')), ('wav', ('.wav',)), ('plot', ('.png',))):
        name = getattr(args, option)
        if name is None:
            continue
        path = pathlib.Path(name)
        if not path.name or path.is_dir():
            parser.error(f'--{option} {name!r} is not the name of a file')
        if path.suffix and path.suffix.lower() not in endings:
            parser.error(f'--{option} {name!r}: its name should end in {endings[0]}')
        if not path.parent.is_dir():
            parser.error(f'--{option} {name!r}: there is no folder {path.parent}')
    files = [os.path.realpath(name) for name in (*outputs, *filter(None, [args.primer]))]
    if len(set(files)) < len(files):
        parser.error('--midi, --wav, --plot and --primer: each needs a file of its own')


def refuse(message):
    """Ends the program with one line and exit code 2: it was called in a wrong way."""
    terminal.complain('generate.py', message)
    sys.exit(2)


def list_near(model, meta, args):
    """Prints the words nearest to --near, the nearest first, and the cosines between them; returns the exit code."""
    vocabulary, args.start, words = meta['vocabulary'], [args.near], [args.near]
    if args.near not in vocabulary:
        words = (start_music if meta['kind'] == 'music' else start_text)(args, meta)
    if len(words) != 1:
        refuse(
            f'--near {args.near!r} is not one word to the model but {len(words)}: {" ".join(words)}'.rstrip(
                ': '
            )
        )
    for i, cosine in nearest(model.l0.W.array, vocabulary.index(words[0]), NEAR):
        print(f'{cosine:6.3f}  {vocabulary[i]}')
    return 0


def nearest(W, i, n):
    """[(row, cosine), ...]: the n rows of W (n_vocab, n_units) whose directions are nearest to that of row i."""
    length = numpy.linalg.norm(W.astype('d'), axis=1)
    cosines = W @ W[i].astype('d') / numpy.maximum(length * length[i], numpy.finfo('d').tiny)
    order = numpy.argsort(-cosines, kind='stable')
    return [(int(k), float(cosines[k])) for k in order if k != i][:n]


def write_text(start, texts, cut, args):
    """Writes the words of texts (lists of str), each after the words `start`, to --out or stdout."""
    pieces = (
        piece
        for n, text in enumerate(texts)
        for piece in itertools.chain(
            ['\n'] if n else [], written(start, text, cut, args.wakati, args.stop)
        )
    )
    if args.out:
        with terminal.replacing(args.out) as file:
            file.writelines(piece.encode() for piece in pieces)
    else:
        for piece in pieces:
            print(piece, end='', flush=True)


def save_music(start, texts, setup, args):
    """Writes the words of pieces (lists of str), each after the words `start`, as --midi, --wav, --plot.

    Returns the exit code: 1 if there is a piece without a note, which is left out.
    """
    from support import sound  # late: matplotlib takes 0.4 s, which a text need not wait for

    setup = read_midi.Setup.from_dict(setup)
    pieces = [to_data([*start, *piece(text, args.stop)], setup) for text in texts]
    silent = [n for n, data in enumerate(pieces, 1) if not any(read_midi.note_counts(data))]
    for n in silent:
        print(
            f'generate.py: the model ended piece {n} before its first note; try another --seed or a larger --length',
            file=sys.stderr,
        )
    for name, write in (
        (args.midi, write_midi),
        (args.wav, sound.write_wav),
        (args.plot, sound.write_png),
    ):
        for n, data in enumerate(pieces, 1):
            if name is not None and n not in silent:
                path = pathlib.Path(name)
                if len(pieces) > 1:
                    path = path.with_stem(f'{path.stem}-{n}')
                write(data, path)
                print(f'{path}: {read_midi.note_counts(data)[0]} notes', file=sys.stderr)
    return 1 if silent else 0


def piece(words, stop=None):
    """Yields the words up to the end of the piece, which is not one of them, or to the first `stop`."""
    for word in words:
        if word == corpus.EOS:
            break
        yield word
        if word == stop:
            break


def positions(word, vocabulary):
    """The ids (list of int) of a word: one, or none."""
    return [i for i, other in enumerate(vocabulary) if other == word]


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


def choose_checkpoint(model, best, kind):
    """The path of the checkpoint that --model and --best mean; CheckpointError if none."""
    if model is None:
        others = []
        for path in checkpoint.runs():
            try:
                if checkpoint.kind_of(path) == kind:
                    break
                others.append(path)
            except checkpoint.CheckpointError as error:
                print(f'left out: {error}', file=sys.stderr)
        else:
            advice = (
                'train one: python train.py --midi track1.mid'
                if kind == 'music'
                else f'--midi out.mid composes with {others[0]}'
                if others
                else 'train one: python train.py --corpus holmes.txt'
            )
            raise checkpoint.CheckpointError(f'no model of {kind} below result/; {advice}')
    else:
        path = pathlib.Path(model)
        if path.is_dir():
            path = path / 'last.npz'
    if best:
        path = path.with_name('best.npz')
        if not path.exists():
            raise checkpoint.CheckpointError(
                f'{path}: no such file; only a run with validation has one'
            )
    return path


def unknown_word(word, vocabulary):
    """The message (one line) for a word that is not in the vocabulary: it offers some that are."""
    near = corpus.near_words(word, vocabulary)
    known = near or [word for word in vocabulary if word.isalpha()][:5] or vocabulary[:5]
    return f'the model does not know {word!r}; it knows {" ".join(known)}'


def start_text(args, meta):
    """The words (list of str) of --start, all of them known; ends with 2 if not."""
    text, vocabulary = ' '.join(args.start), meta['vocabulary']
    known = set(vocabulary)
    words = [text] if text in known else corpus.split_text(text, meta['cut'])
    if words and words[-1] == corpus.EOS and text not in known:
        words.pop()
    for word in words:
        if word not in known or word == corpus.UNK:
            refuse(unknown_word(word, vocabulary))
    return words


def start_music(args, meta):
    """The words (list of str) of --start or --primer, all of them known; ends with 2 if not."""
    vocabulary = meta['vocabulary']
    words = [word for given in args.start for word in given.split()]
    for n, word in enumerate(words):
        if word not in vocabulary or word in (corpus.EOS, corpus.UNK):
            pitches = music.pitch_words(vocabulary)
            words[n] = pitches.get(music.pitch_key(word))
            if words[n] is None:
                refuse(
                    f'the model knows no {word!r}; its notes are {" ".join(map(music.pitch_name, pitches))}, '
                    f'and its words such as {" ".join([*pitches.values()][:1])}'
                )
    if args.primer:
        words = primer(corpus.find(args.primer), meta)
        unknown = [n for n, word in enumerate(words) if word not in vocabulary]
        for n in unknown:
            words[n] = music.nearest_word(words[n], vocabulary)
        if unknown:
            print(
                f'{len(unknown)} of the first {len(words)} words of {args.primer} are new to the model: '
                'the nearest that it knows stand for them',
                file=sys.stderr,
            )
    return words


def primer(path, meta):
    """The first words (list of str) of a MIDI file, made as those that the model learned."""
    track, events = meta['options'].get('track'), meta['options'].get('events')
    events = events if events in (*read_midi.EVENTS,) else 'notes'
    track = track if type(track) is int or track == 'all' else None
    setup = read_midi.Setup.from_dict(meta['music'])
    for chosen in (track, None):  # a file without that track has another one
        try:
            pieces = music.read([path], chosen, events, setup).pieces
            break
        except read_midi.MusicError:
            if chosen is None:
                raise
    return pieces[0][:PRIMER]


def generate(
    model, start, length, num=1, temperature=1.0, top_k=0, top_p=1.0, forbidden=(), rng=numpy.random
):
    """Yields `length` arrays (num,) of word ids, each drawn from the model.

    start: (S,) ids, S >= 1, each fed exactly once; forbidden: ids never drawn;
    rng: a numpy.random.RandomState. See `draw` for the rest. FloatingPointError if the
    weights of the model are so large that it can say nothing.
    """

    def step(ids):
        with numpy.errstate(over='ignore', invalid='ignore'):
            return model.step(ids)

    model.initialize_state(num)
    for i in start:
        logits = step([i] * num)
    for position in range(length):
        logits = numpy.array(cuda.to_cpu(logits), 'd')
        if not numpy.isfinite(logits).all():
            raise FloatingPointError(
                'the weights of the model are so large that its logits are no numbers'
            )
        logits[:, list(forbidden)] = -numpy.inf
        ids = draw(logits, temperature, top_k, top_p, rng)
        yield ids
        if position < length - 1:
            logits = step(ids)


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
