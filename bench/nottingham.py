"""The network against a 5-gram model on the jigs of the Nottingham collection.

    python bench/nottingham.py FOLDER [options of train.py]

FOLDER holds the melodies as .mid (MIDI/melody of https://github.com/jukedeck/nottingham-dataset).
Sorted by name, tune 1, 11, 21, ... is for the test, tune 2, 12, 22, ... for validation, the rest
to learn from; a melody that equals an earlier one, also transposed, goes where that one is. Both
models see the same words, with those that occur once in what the network learns from as <unk>, and
are asked for every word of the test tunes and for the end of each tune.

The 5-gram model is interpolated with absolute discounting (Ney, Essen and Kneser 1994), the
discounts of its five orders, whether its lower orders count contexts instead of occurrences
(Kneser and Ney 1995), and whether it learns from transposed tunes, too, where the network
does, are chosen on the validation tunes. So is the network's epoch.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import train  # first: it prepares chainer's import

import chainer
import numpy

from bench.ngrams import ORDER, NGrams
from support import checkpoint, data, music, parallel, run, terminal
from support.options import merge
from support.text import EOS, encode, make_vocabulary

# Options of train.py that nothing here would follow.
WITHOUT = {'corpus', 'midi', 'valid', 'test', 'val_frac', 'vocab_size', 'track', 'channel'}
WITHOUT |= {'events', 'grid', 'resume', 'init_from', 'mpi'}


def split(paths):
    """(tunes to learn from, to validate, to test), lists of lists of words, and their setup."""
    collection = music.read(paths)
    sides = {0: [], 1: [], 2: []}
    seen = {}
    for number, words in enumerate(collection.pieces):
        first_key = int(words[0].split('_')[2][:2], 16)
        melody = tuple(music.transpose(words, 60 - first_key))
        side = seen.setdefault(melody, {0: 2, 1: 1}.get(number % 10, 0))
        sides[side].append(words)
    return sides[0], sides[1], sides[2], collection.setup


def flat(tunes):
    """One list of words, EOS before, between and after the tunes."""
    return [EOS] + [word for tune in tunes for word in (*tune, EOS)]


def five_gram(texts, validation, test, n_vocab):
    """(validation perplexity, test perplexity, what was chosen) of the best 5-gram model.

    texts: dict of what there is to learn from, name: ids.
    """
    found = []
    for name, learned in texts.items():
        for continuation in (False, True):
            model = NGrams(learned, n_vocab, continuation)
            table = model.look_up(validation)
            discounts = [0.5] * ORDER
            for _ in range(3):  # one order after the other
                for n in range(ORDER):
                    discounts[n] = min(
                        numpy.arange(0.02, 1, 0.02),
                        key=lambda d: model.perplexity(
                            table, discounts[:n] + [d] + discounts[n + 1 :]
                        ),
                    )
            found.append(
                (
                    model.perplexity(table, discounts),
                    model.perplexity(model.look_up(test), discounts),
                    f'{name}, counts {"contexts" if continuation else "occurrences"}, discounts '
                    + ' '.join(f'{d:.2f}' for d in discounts),
                )
            )
    return min(found)


def perplexity(model, ids):
    """Of ids[1:] under the network, read in one stream from a fresh state."""
    model.initialize_state(1)
    loss = 0
    with chainer.no_backprop_mode(), chainer.using_config('train', False):
        for x, t in zip(ids, ids[1:]):
            loss += float(model.forward(numpy.array([x], 'i'), numpy.array([t], 'i'))[0].array)
    return numpy.exp(loss / (len(ids) - 1))


@terminal.reporting
def main(argv=None):
    """Runs the command with the arguments argv (list of str); returns its exit code."""
    parser = terminal.Parser(
        prog='nottingham.py',
        description='The network against a 5-gram model on jigs.',
        epilog='Options of train.py may follow.',
    )
    parser.add_argument('folder', type=pathlib.Path)
    args, rest = parser.parse_known_args(argv)
    options = train.options()
    given = vars(options.parse_args(rest))
    for name in given.keys() & WITHOUT:
        parser.error(f'--{name.replace("_", "-")} has no effect here; leave it out')
    paths = sorted(args.folder.glob('jigs*.mid'))
    if len(paths) < 3:
        parser.error(f'{args.folder}: no folder of the melodies, jigs1.mid and so on')
    usual = {'midi': [*map(str, paths)], 'min_count': 2, 'out': 'result/nottingham'}
    learned, validation, test, setup = split(paths)
    counts = f'{len(learned)} to learn from, {len(validation)} to validate, {len(test)} to test'
    print(f'{len(paths)} tunes: {counts}')
    with run.Folder() as folder:
        args, _, _ = merge(
            options, usual | given, train.RUN, train.DEFAULTS, folder, parallel.ALONE
        )
        plain, validation, test = flat(learned), flat(validation), flat(test)
        words = music.also_transposed(plain, *args.transpose) if args.transpose else plain
        vocabulary = make_vocabulary(words, args.min_count)
        plain, learned, validation, test = (
            encode(some, vocabulary) for some in (plain, words, validation, test)
        )
        print(f'{len(learned):,}, {len(validation):,} and {len(test):,} words, ', end='')
        print(f'{len(vocabulary):,} types')
        what = data.Data(
            source='jigs',
            sources=[str(path.resolve()) for path in paths],
            kind='music',
            tokenizer='space',
            setup=setup,
            vocabulary=vocabulary,
            ids=learned,
            validation=validation,
            crc=0,
            test=None,
            remarks=[],
        )
        train.train(args, what, None, None, folder, parallel.ALONE)
    best = checkpoint.load(args.out / 'best.npz')

    texts = {'tunes as they are': plain.tolist(), 'with all transpositions': learned.tolist()}
    print(
        '5-gram: validation perplexity {:.3f}, test perplexity {:.3f} ({})'.format(
            *five_gram(texts, validation.tolist(), test.tolist(), len(vocabulary))
        )
    )
    print(
        f'network: validation perplexity {perplexity(best.model, validation):.3f}, '
        f'test perplexity {perplexity(best.model, test):.3f} (epoch {best.epoch})'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
