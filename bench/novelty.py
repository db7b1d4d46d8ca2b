"""How much of a generated text stands word for word in the text that was learned.

    python generate.py --start ホームズ --length 300 --out story.txt
    python bench/novelty.py holmes.txt story.txt
    python generate.py | python bench/novelty.py holmes.txt -

A small corpus is soon known by heart, and what looks well written may be quoted. Prints, for each
text, the longest run of words that stands in the corpus, too, and the share of its n-grams that do.
The last part of the corpus itself against what stands before it is there for comparison: what
people write has such runs as well. A word is what it is for train.py (--level); a line end is one.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import numpy

from support import terminal
from support.source import CorpusError
from support.text import choose_tokenizer, decode, detokenize, read, tokenize

LENGTHS = {'word': (1, 2, 3, 4, 5, 8), 'char': (2, 4, 8, 12, 16, 24)}  # of n-grams
SHOWN = 200  # characters of the longest run


class Seen:
    """Which n-grams of the `words` stand in the `corpus` (lists of str).

    Equal runs get equal numbers, of 2 words, 4, 8 and so on, each from two halves (Karp, Miller and
    Rosenberg 1972); so any length takes a few sorts of all positions, and a megabyte half a minute.
    """

    def __init__(self, corpus, words):
        index = {}
        self.words, self.n_corpus = words, len(corpus)
        numbers = [index.setdefault(word, len(index)) for word in corpus + words]
        self.numbers = [numpy.array(numbers)]

    def __call__(self, n):
        """(len(words) - n + 1,) bool: whether each n-gram of the words stands in the corpus."""
        k = n.bit_length() - 1
        for half in range(len(self.numbers) - 1, k):
            self.numbers.append(numpy.unique(self._pairs(half, 1 << half), return_inverse=True)[1])
        grams = self._pairs(k, n - (1 << k))
        return numpy.isin(grams[self.n_corpus :], grams[: max(0, self.n_corpus - n + 1)])

    def _pairs(self, k, distance):
        """int64 numbers of runs: one of 2 ** k words, and another one `distance` words on."""
        numbers, size = self.numbers[k], len(self.numbers[0])
        return numbers[: max(0, len(numbers) - distance)] * size + numbers[distance:]

    def longest_run(self):
        """The longest part (list of str) of the words that stands in the corpus, the first one."""
        seen, unseen = 0, 1
        while self(unseen).any():
            seen, unseen = unseen, 2 * unseen
        while unseen - seen > 1:
            middle = (seen + unseen) // 2
            seen, unseen = (middle, unseen) if self(middle).any() else (seen, middle)
        start = int(self(seen).argmax()) if seen else 0
        return self.words[start : start + seen]

    def share(self, n):
        """The share (float) of the n-grams of the words that stand in the corpus, or None."""
        found = self(n)
        return float(found.mean()) if len(found) else None


def report(name, learned, words, lengths):
    """Prints the line of a text (lists of words); returns its longest run that was learned."""
    seen = Seen(learned, words)
    shares, run = (seen.share(n) for n in lengths), seen.longest_run()
    print(
        f'{name:28} {len(words):7,} {len(run):7,}  '
        + ' '.join(f'{"-" if share is None else format(share, ".1%"):>6}' for share in shares)
    )
    return run


def read_generated(name):
    """The text (str) of a generated file, - is stdin; CorpusError."""
    if name != '-':
        return read(name)
    if sys.stdin is None:
        raise CorpusError('-: stdin is closed')
    return decode(sys.stdin.buffer.read(), 'stdin')


@terminal.reporting
def main(argv=None):
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog='novelty.py', description='How much of a text stands word for word in a corpus.'
    )
    option, frac = parser.add_argument, terminal.number(float, 0, 0.9)
    last = 'last part of the corpus, for comparison (default: 0.05)'
    option('corpus', help='what was learned: as --corpus of train.py')
    option('texts', nargs='+', metavar='TEXT', help='generated texts: files, - is stdin')
    option('--level', choices=LENGTHS, default='word')
    option('--val-frac', type=frac, default=0.05, metavar='F', help=last)
    args = parser.parse_args(argv)
    text, lengths = read(args.corpus), LENGTHS[args.level]
    tokenizer = choose_tokenizer(text, args.level)
    words = tokenize(text, tokenizer)
    n_val = int(len(words) * args.val_frac)
    texts = {name: tokenize(read_generated(name), tokenizer) for name in args.texts}
    print(f'{"":28} {"words":>7} {"longest":>7}  ' + ' '.join(f'{f"{n}-gr.":>6}' for n in lengths))
    runs = {name: report(name, words, generated, lengths) for name, generated in texts.items()}
    if n_val:
        report('the corpus, its last part', words[:-n_val], words[-n_val:], lengths)
    for name, run in runs.items():
        run = detokenize(run, tokenizer)
        print(f'longest in {name}: {run[:SHOWN]!r}' + (' and so on' if len(run) > SHOWN else ''))
    return 0


if __name__ == '__main__':
    sys.exit(main())
