"""Generated sentences under a judge: a 5-gram model of texts that the network has not read.

    python generate.py --start ホームズ --num 100 --stop 。 --seed 1 --out story.txt
    python bench/judge.py holmes.txt story.txt --start ホームズ --texts FOLDER --held-out FILE

The judge reads the --texts (works of the same kind and translators), except those that the network
has learned or that are held out. A line for each file of generated texts, between empty lines:

    words     of a text: their mean, and the quarter of texts that are shortest and longest
    nats      per word under the judge, with the standard error over texts; the first word, which
              is given, is only read
    ppl       the same as perplexity
    unknown   words that the judge does not know. Such a word costs what <unk> does, and the
              logarithm of the number of words that <unk> stands for: it is not cheap
    distinct  share of different n-grams among the first thousand
    longest   run of words that stands in what was learned, and the share of n-grams that do
    brackets  texts in which all 「」, 『』 and （） match

Two lines stand for what can be reached, real sentences from --start to --stop: of the held-out
works, and of what was learned. The other end is the first of them with their words shuffled.
"""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import numpy

from bench.ngrams import NGrams
from bench.novelty import Seen, read_generated
from support import terminal
from support.source import CorpusError, documents
from support.text import ENDINGS, EOS, UNK, choose_tokenizer, encode, make_vocabulary, read
from support.text import read_document, tokenize

DISTINCT = 1, 2, 3  # lengths of n-grams
COPIED = 3, 4, 5
FIRST = 1000  # n-grams that are compared: a longer text repeats itself more
LONGEST = 100  # words of a real sentence, as many as generate.py writes
CLOSED_BY = {'「': '」', '『': '』', '（': '）'}
HEADER = (
    f'{"":24} texts  words          nats          ppl unknown  distinct 1-3-grams '
    'longest  copied 3-5-grams  brackets'
)


class Judge:
    """An n-gram model of texts (lists of words); words that occur once are <unk> to it.

    CorpusError if there are none: nothing tells then how likely a new word is.
    """

    def __init__(self, texts):
        words = [word for text in texts for word in text]
        self.vocabulary = make_vocabulary(words, min_count=2)
        if UNK not in self.vocabulary:
            raise CorpusError('--texts: too little for a judge: each word is there twice or more')
        self.known = {*self.vocabulary} - {UNK}
        self.n_unknown = max(1, len({*words}) - len(self.known))
        self.model = NGrams(encode(words, self.vocabulary), len(self.vocabulary))
        self.discounts = self.model.discounts()

    def nats(self, words):
        """(N - 1,) float64: what each of the words, list of str, costs after the first."""
        table = self.model.look_up(encode(words, self.vocabulary))
        nats = -numpy.log(self.model.probabilities(table, self.discounts))
        unknown = [word not in self.known for word in words[1:]]
        return nats + numpy.log(self.n_unknown) * numpy.array(unknown, 'd')


def sentences(words, args):
    """Yields real sentences (lists of str), from --start or any word to the next --stop.

    A sentence begins after --stop, or on a line, maybe indented.
    """
    before, blank = EOS, (EOS, '\u3000')
    for i, word in enumerate(words):
        begins = before in (*blank, args.stop) and word not in (*blank, *CLOSED_BY.values())
        if begins and args.start in (None, word):
            rest = words[i : i + LONGEST]
            yield rest[: rest.index(args.stop) + 1 if args.stop in rest else None]
        before = word


def match(words):
    """Do the brackets of a text (list of words) match (bool)?"""
    expected = []
    for char in ''.join(words):
        if char in CLOSED_BY:
            expected.append(CLOSED_BY[char])
        elif char in CLOSED_BY.values() and (not expected or expected.pop() != char):
            return False
    return not expected


def distinct(texts, n):
    """The share of different n-grams among the first FIRST, or None if there are fewer."""
    grams = [gram for text in texts for gram in zip(*(text[i:] for i in range(n)))][:FIRST]
    return len({*grams}) / FIRST if len(grams) == FIRST else None


def copied(texts, learned):
    """(length of the longest run that was learned, shares of n-grams of COPIED that were)."""
    words = [word for text in texts for word in (*text, None)]  # no run goes on over None
    left = numpy.array([n for text in texts for n in range(len(text), -1, -1)])
    seen = Seen(learned, words)
    founds = [seen(n)[left[: max(0, len(words) - n + 1)] >= n] for n in COPIED]
    shares = [found.mean() if len(found) else None for found in founds]
    return len(seen.longest_run()), shares


def mean_and_error(nats):
    """The mean of all words of texts (list of arrays), and its standard error over texts."""
    sizes, sums = numpy.array([[len(text), text.sum()] for text in nats]).T
    mean = sums.sum() / sizes.sum()
    error = numpy.sqrt(numpy.sum((sums - mean * sizes) ** 2)) / sizes.sum()  # of a ratio
    return mean, error * numpy.sqrt(len(nats) / max(1, len(nats) - 1))


def percent(share):
    """A share as a cell of a line (str), '-' of None."""
    return '     -' if share is None else f'{share:6.1%}'


def line(name, texts, judge, learned):
    """The line (str) of texts, lists of words; `learned`: the words that the network has read."""
    sizes = [*map(len, texts)]
    low, high = numpy.percentile(sizes, (25, 75))
    mean, error = mean_and_error([judge.nats(text) for text in texts])
    unknown = numpy.mean([word not in judge.known for text in texts for word in text[1:]])
    longest, shares = copied(texts, learned)
    closed = numpy.mean([*map(match, texts)])
    return (
        f'{name[-24:]:24} {len(texts):5} {numpy.mean(sizes):5.1f} ({low:.0f}-{high:.0f})'.ljust(44)
        + f'{mean:6.3f} ±{error:5.3f} {numpy.exp(mean):7.0f} {percent(unknown)}  '
        + ' '.join(percent(distinct(texts, n)) for n in DISTINCT)
        + f' {longest:7}  {" ".join(map(percent, shares))}  {percent(closed)}'
    )


def read_texts(sources, left_out, tokenizer):
    """The texts (lists of words) of files, folders and zips, except those equal to `left_out`."""
    texts = (
        ''.join(read_document(data, name))
        for source in sources
        for name, data in documents(source, ENDINGS)
    )
    return [tokenize(text, tokenizer) for text in texts if text not in left_out]


def options():
    """The argparse.ArgumentParser of this program."""
    parser = terminal.Parser(
        prog='judge.py', description='Generated sentences under a judge that reads other texts.'
    )
    option = parser.add_argument
    option('corpus', help='what the network has learned: as --corpus of train.py')
    option('samples', nargs='+', metavar='TEXT', help='files of generate.py --num 100 --out')
    option('--texts', nargs='+', required=True, metavar='SOURCE', help='what the judge reads')
    option('--held-out', nargs='+', required=True, metavar='FILE', help='real texts to compare')
    option('--start', metavar='WORD', help='the first word of all sentences (default: any)')
    option('--stop', default='。', metavar='WORD', help='the last word of all (default: 。)')
    return parser


@terminal.reporting
def main(argv=None):
    """Runs the command with the arguments argv (list of str); returns its exit code."""
    args = options().parse_args(argv)
    corpus = read(args.corpus)
    tokenizer = choose_tokenizer(corpus)
    held_out = [*map(read, args.held_out)]
    texts = read_texts(args.texts, {corpus, *held_out}, tokenizer)
    if not any(texts):
        raise CorpusError('--texts: nothing is left that was neither learned nor held out')
    judge, learned = Judge(texts), tokenize(corpus, tokenizer)
    n_words = f'{sum(map(len, texts)):,} words, {len(judge.known):,} of them different and known'
    print(f'the judge has read {len(texts)} texts: {n_words}\n\n{HEADER}')
    real = [words for text in held_out for words in sentences(tokenize(text, tokenizer), args)]
    rng = numpy.random.RandomState(0)
    rows = {
        'held-out works': real,
        'the same, shuffled': [[*words[:1], *rng.permutation(words[1:])] for words in real],
        'what was learned': [*sentences(learned, args)],
    }
    for name in args.samples:
        texts = re.split('\n{2,}', read_generated(name).strip('\n'))
        rows[name] = [tokenize(text, tokenizer)[:-1] for text in texts]
    for name, texts in rows.items():
        texts = [words for words in texts if len(words) > 1]
        if not texts:
            raise CorpusError(f'{name}: no sentence of two words or more')
        print(line(name, texts, judge, learned))
    return 0


if __name__ == '__main__':
    sys.exit(main())
