"""Is it monotonous? What the network composes beside what it learned, and beside what it did not.

    python bench/music.py track1.mid
    python bench/music.py track1.mid --track all --layer 2 3 --bproplen 35 100 200

Trains a model for each setting, below result/bench-music, or goes on from there, and lets each
compose at each temperature. The last part of the music is held out. Source and held-out part are
measured in stretches as long as what is composed. The columns are means over pieces or stretches:

    pitches    share of the source's pitches that are used
    rhythms    share of the source's times from one note to the next that are used
    bars       share of bars that have been heard before in the same piece
    phrases    share of runs of eight notes that have been heard before in the same piece
    range      semitones from the lowest note to the highest
    rests      share of the time in which no note sounds
    scale      share of notes in the source's scale: the tones that make up 95 % of its notes
    copied     words of the longest passage that stands in the source, too
    off        mean distance of the six shares from those of the source: the smaller, the more alike
"""

import argparse
import collections
import itertools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support import modern_chainer  # noqa: F401  prepares chainer's import

import numpy

import generate
import train
from bench.novelty import Seen
from read_midi import Setup, resolution, track_option
from support import checkpoint, music, terminal
from support.notes import metre, notes
from support.source import find
from support.terminal import number
from support.text import EOS, UNK, encode
from write_midi import to_data

PHRASE = 8  # notes
SHARES = ('pitches', 'rhythms', 'bars', 'phrases', 'rests', 'scale')
COLUMNS = (*SHARES[:4], 'range', *SHARES[4:], 'copied')


class Piece:
    """The notes of a list of words, and what can be counted of them; setup: read_midi.Setup."""

    def __init__(self, words, setup):
        data = to_data(words, setup)
        self.words, self.notes = words, notes(data)
        whole = 4 * abs(resolution(setup.division))
        numerator, denominator = metre(data) or (4, 4)
        self.bar = whole * numerator // denominator
        starts = [note.start for note in self.notes]
        self.pitches = {note.key for note in self.notes}
        self.steps = [after - before for before, after in itertools.pairwise(starts)]
        self.rhythms = set(self.steps)

    def scale(self):
        """The tones (set of int, 0 for C) that make up 95 % of the notes."""
        counts = collections.Counter(note.key % 12 for note in self.notes)
        tones, left = set(), 0.95 * len(self.notes)
        for tone, count in counts.most_common():
            if left <= 0:
                break
            tones.add(tone)
            left -= count
        return tones

    def heard_before(self):
        """(share of bars, share of phrases) that stand earlier in this piece."""
        bars = collections.defaultdict(list)
        for note in self.notes:
            bars[note.start // self.bar].append((note.start % self.bar, note.key, note.channel))
        bars = [tuple(bar) for _, bar in sorted(bars.items())]
        figures = list(zip((note.key for note in self.notes[1:]), self.steps))
        phrases = [tuple(figures[i : i + PHRASE]) for i in range(len(figures) - PHRASE + 1)]
        return [1 - len(set(parts)) / max(len(parts), 1) for parts in (bars, phrases)]

    def rests(self):
        """Share of the time, from the first note to the last, in which no note sounds."""
        silent, until = 0, self.notes[0].start
        for note in self.notes:
            silent += max(0, note.start - until)
            until = max(until, note.end)
        return silent / max(until - self.notes[0].start, 1)

    def measures(self, source):
        """A dict of COLUMNS (float); source: the Piece that was learned."""
        scale = source.scale()
        bars, phrases = self.heard_before()
        return {
            'pitches': len(self.pitches & source.pitches) / len(source.pitches),
            'rhythms': len(self.rhythms & source.rhythms) / len(source.rhythms),
            'bars': bars,
            'phrases': phrases,
            'range': max(self.pitches) - min(self.pitches),
            'rests': self.rests(),
            'scale': sum(note.key % 12 in scale for note in self.notes) / len(self.notes),
            'copied': len(Seen(source.words, self.words).longest_run()),
        }


def means(pieces, source):
    """The means (dict) of what Pieces measure; those of fewer notes than a phrase are left out."""
    found = [piece.measures(source) for piece in pieces if len(piece.notes) > PHRASE]
    return {name: float(numpy.mean([m[name] for m in found])) for name in COLUMNS} if found else {}


def stretches(words, setup, length):
    """Pieces of `length` words that follow each other; one, if there are fewer words."""
    starts = range(0, max(len(words) - length, 0) + 1, length)
    return [Piece(words[start : start + length], setup) for start in starts]


def compose(saved, args, temperature):
    """--num Pieces, as generate.py composes them with --seed 1."""
    drawn = generate.generate(
        saved.model,
        encode([EOS], saved.vocabulary),
        args.length,
        args.num,
        temperature,
        forbidden=generate.ids_of(UNK, saved),
        rng=numpy.random.RandomState(1),
    )
    texts = numpy.reshape([*drawn], (-1, args.num)).T
    pieces = []
    for ids in texts:
        words = itertools.takewhile(EOS.__ne__, (saved.vocabulary[i] for i in ids))
        pieces.append(Piece([*words], Setup.from_dict(saved.setup)))
    return pieces


def trained(args, layer, bproplen):
    """The Checkpoint of a model with these settings, trained now or before."""
    name = f'{pathlib.Path(args.midi).stem}-{args.track}-{layer}-{bproplen}-{args.epoch}'
    name += f'-{args.val_frac}'
    out = pathlib.Path(args.out) / name
    options = ['--midi', args.midi, '--out', str(out), '--layer', str(layer)]
    options += ['--bproplen', str(bproplen), '--val-frac', str(args.val_frac)]
    options += ['--epoch', str(args.epoch), '--sample-every', '0']
    options += [] if args.track is None else ['--track', str(args.track)]
    if (out / 'last.npz').exists():  # of the same music, or --resume refuses
        options += ['--resume', str(out)]
    if train.main(options):
        raise SystemExit(1)
    return checkpoint.load(out / 'last.npz')


def row(name, found, source):
    """A line of the table (str)."""
    off = numpy.mean([abs(found[share] - source[share]) for share in SHARES]) if found else 0
    cells = [f'{found[n]:.2f}' if n in SHARES else f'{found[n]:.0f}' for n in COLUMNS if found]
    return f'| {name} | {" | ".join(cells)} | {off:.3f} |'


@terminal.reporting
def main(argv=None):
    """Runs the command with the arguments argv (list of str); returns its exit code."""
    parser = argparse.ArgumentParser(description='Compares what is composed with what was learned.')
    option = parser.add_argument
    option('midi', help='a .mid file, or a folder of them')
    option('--track', type=track_option, help='as of train.py')
    option('--layer', type=number(int, 1), nargs='+', default=[2])
    option('--bproplen', type=number(int, 1), nargs='+', default=[35])
    option('--temperature', type=number(float, 0), nargs='+', default=[0.7, 0.8, 0.9, 1.0, 1.1])
    option('--epoch', type=number(int, 1), default=40)
    option('--val-frac', type=number(float, 0.01, 0.9), default=0.15, help='share held out')
    option('--num', type=number(int, 1), default=8, help='pieces at each temperature')
    option('--length', type=number(int, 1), default=500, help='words of a piece')
    option('--out', default='result/bench-music', help='where the models are kept')
    args = parser.parse_args(argv)

    learned = music.read([find(args.midi)], args.track)
    words = [word for piece in learned.pieces for word in piece]
    end = len(words) - int(len(words) * args.val_frac)
    source = Piece(words[:end], learned.setup)
    usual = means(stretches(words[:end], learned.setup, args.length), source)
    held_out = means(stretches(words[end:], learned.setup, args.length), source)
    lines = [f'| layers, bproplen, temperature | {" | ".join((*COLUMNS, "off"))} |']
    lines += ['| --- ' * (len(COLUMNS) + 2) + '|', row('the source', usual, usual)]
    lines.append(row('held out', held_out, usual))
    settings = [*itertools.product(args.layer, args.bproplen)]
    models = [trained(args, *setting) for setting in settings]
    for (layer, bproplen), saved in zip(settings, models):
        for temperature in args.temperature:
            found = means(compose(saved, args, temperature), source)
            lines.append(row(f'{layer}, {bproplen}, {temperature}', found, usual))
    print(*lines, sep='\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
