"""How much of a generated text stands word for word in the text that was learned.

    python generate.py --start ホームズ --length 300 --out story.txt
    python bench/novelty.py holmes.txt story.txt
    python generate.py | python bench/novelty.py holmes.txt -

A small corpus is soon known by heart, and what looks well written may be quoted. Prints, for each text,
the longest run of words that stands in the corpus, too, and the share of its n-grams that do. For
comparison, the same of the last part of the corpus itself against what stands before it: what people
write has such runs as well. A word is what it was for train.py (--level); a line end is one.
"""
import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import command
import corpus

LENGTHS = {'word': (1, 2, 3, 4, 5, 8), 'char': (2, 4, 8, 12, 16, 24)}  # of n-grams
SEPARATOR = '\0'  # in no text that corpus.read gives


class Seen:
    """What stands in a text. words: list of str without SEPARATOR."""

    def __init__(self, words):
        self.text = self._joined(words)

    @staticmethod
    def _joined(words):
        return SEPARATOR + SEPARATOR.join(words) + SEPARATOR

    def __contains__(self, run):
        """Does this list of words stand in the text, one after the other?"""
        return self._joined(run) in self.text

    def longest_run(self, words):
        """The longest (the first, if several) part of the words that stands in the text (list of str)."""
        start = length = 0
        for i in range(len(words)):
            while i + length < len(words) and words[i:i + length + 1] in self:
                start, length = i, length + 1
        return words[start:start + length]

    def share(self, words, n):
        """The share (float) of the n-grams of the words that stand in the text; None if there are none."""
        grams = [words[i:i + n] for i in range(len(words) - n + 1)]
        return sum(gram in self for gram in grams) / len(grams) if grams else None


def report(name, words, seen, lengths):
    """Prints the line of a text."""
    shares = (seen.share(words, n) for n in lengths)
    run = seen.longest_run(words)
    print(f'{name:28} {len(words):7,} {len(run):7,}  '
          + ' '.join(f'{"-" if share is None else format(share, ".1%"):>6}' for share in shares))
    return run


@command.reporting(corpus.CorpusError)
def main(argv=None):
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog='novelty.py', description='How much of a text stands word for word in a corpus.')
    parser.add_argument('corpus', help='what was learned: as --corpus of train.py')
    parser.add_argument('texts', nargs='+', metavar='TEXT', help='generated texts: files, - is stdin')
    parser.add_argument('--level', choices=LENGTHS, default='word')
    parser.add_argument('--val-frac', type=command.number(float, 0, 0.9), default=0.05, metavar='F',
                        help='last part of the corpus, for comparison (default: 0.05)')
    args = parser.parse_args(argv)
    text, lengths = corpus.read(args.corpus), LENGTHS[args.level]
    cut = corpus.choose_cut(text, args.level)
    words = corpus.split_text(text, cut)
    n_val = int(len(words) * args.val_frac)
    texts = {}
    for name in args.texts:
        data = sys.stdin.buffer.read() if name == '-' else corpus.read(name).encode()
        texts[name] = corpus.split_text(corpus.decode(data, name).replace('\r\n', '\n'), cut)
    print(f'{"":28} {"words":>7} {"longest":>7}  ' + ' '.join(f'{f"{n}-gr.":>6}' for n in lengths))
    seen, runs = Seen(words), {}
    for name, generated in texts.items():
        runs[name] = report(name, generated, seen, lengths)
    if n_val:
        report('the corpus, its last part', words[-n_val:], Seen(words[:-n_val]), lengths)
    for name, run in runs.items():
        print(f'longest in {name}: {corpus.join(run, cut)!r}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
