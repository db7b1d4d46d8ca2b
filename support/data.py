"""Text or music ► ids: the one module that knows both kinds.

    what = data.load(args, saved=None, initial=None)
    what.ids          (N,) int32, to learn
    what.validation   (M,) int32, to validate on, or None
    what.vocabulary   the word of each id

From here on the network knows no difference: both are sequences of words.
"""

import contextlib
import dataclasses
import os
import sys
import zlib

import numpy

from read_midi import Setup
from support import aozora, music, progress, terminal
from support.library import Reading, encode_texts, replaced
from support.source import CorpusError, files_in, find, is_address, is_folder, is_large
from support.text import EOS, REPLACEMENT, SAMPLE, UNK, encode, explained_tokenizer
from support.text import make_vocabulary, read, tokenize

LIBRARIES = 'result/encoded'  # the ids of folders and of several texts are kept here


@dataclasses.dataclass
class Data:
    """What train.py learns from, and what generate.py has to know of it."""

    source: str  # what it was read from, for messages
    sources: list  # of str: the absolute paths of all files that were read, links resolved
    kind: str  # 'text' or 'music'
    tokenizer: str  # what has cut the text into words: 'mecab', 'space' or 'char'
    setup: Setup | None  # of music: what its words do not tell
    vocabulary: list  # of str; the position of a word is its id
    ids: numpy.ndarray  # (N,) int32, to learn; of a folder of texts a numpy.memmap
    validation: numpy.ndarray | None  # (M,) int32; the first word is only read, not predicted
    crc: int  # zlib.crc32 of all ids
    test: list | None  # of str: the words of --test
    remarks: list  # of str, one line each: what the user should know

    def about(self):
        """What generate.py and --resume have to know, fields of a Checkpoint (dict)."""
        fields = ('kind', 'vocabulary', 'tokenizer', 'setup', 'crc', 'sources')
        about = {name: getattr(self, name) for name in fields}
        return about | {'setup': self.setup and dataclasses.asdict(self.setup)}

    def sizes(self, batchsize, args, processes):
        """How many words are learned and validated, and in how many streams: a line (str)."""
        words = (len(self.ids) - 1) // batchsize * batchsize
        line = f'{words:,} words to learn, in {batchsize} streams'
        if batchsize < args.batchsize:
            line += f' (a small text: not {args.batchsize})'
        if processes > 1:
            line += f' of {processes} processes'
        n_val = 0 if self.validation is None else len(self.validation) - 1
        return f'{line}; {n_val:,} to validate'


def load(args, saved, initial=None):
    """Reads what train.py's options (argparse.Namespace) name: a Data.

    saved: the Checkpoint of a run that goes on, or None; initial: that of --init-from, or None.
    CorpusError or MusicError, in one line, if it cannot be had, cannot be read, is too short, or is
    not what the run that goes on has learned.
    """
    model = initial or (saved if args.known else None)  # the first `known` words are its words
    try:
        if args.midi:
            learned = _load_music(args, model)
        else:
            with _no_music(args.corpus):
                learned = _load_corpus(args, model)
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, SIGTERM
        print(
            'stopped while reading; nothing was learned, the next start begins anew',
            file=sys.stderr,
        )
        raise
    if saved and (saved.vocabulary, saved.crc) != (learned.vocabulary, learned.crc):
        advice = f'--init-from {saved.path} begins a new run with its weights'
        raise CorpusError(f'{learned.source}: not what {saved.path} was trained on; {advice}')
    if saved:  # with --valid and --test of earlier starts
        learned.sources = sorted({*learned.sources, *saved.sources})
    learned.remarks += _description(learned, initial)
    limit = progress.PART // 10
    n_val = 0 if learned.validation is None else len(learned.validation) - 1
    if n_val > limit and progress.parts(len(learned.ids)) > 1 and not args.valid:
        # Of each part of an epoch: validation must not take longer than learning.
        learned.remarks.append(f'of {n_val:,} words for validation, the first {limit:,} are read')
        learned.validation = learned.validation[: limit + 1]
    if learned.validation is None and args.patience:
        learned.remarks.append('without validation --patience does nothing')
    return learned


@terminal.doing('counting words')
def _description(learned, initial):
    """The size of what is learned, how much of it is new to the Checkpoint `initial` (or None),
    and a warning of music that hardly repeats: lines (list)."""
    counts = _counts(learned.ids, learned.vocabulary)
    used = counts
    if learned.validation is not None:
        used = counts + _counts(learned.validation[1:], learned.vocabulary)
    n, types = used.sum(), numpy.count_nonzero(used)
    lines = [f'{learned.source}: {n:,} tokens, {types:,} types, ']
    if UNK in learned.vocabulary:
        share = counts[learned.vocabulary.index(UNK)] / len(learned.ids)
        lines[0] += f'{share:.1%} of the tokens are {UNK}'
    else:
        lines[0] += f'{types / n:.3f} types per token'
    if initial:
        new = len(learned.vocabulary) - len(initial.vocabulary)
        lines.append(f'begins with {initial.path}: {new:,} of {types:,} words are new to it')
    if learned.kind == 'music' and types / n > music.MAX_TYPES_PER_TOKEN:
        lines.append(
            'so many different words can only be learned by heart; --grid 12 for a recording, '
            '--events notes, another --track, a score, or several files have more in common'
        )
    return lines


def _counts(ids, vocabulary):
    """How often each word of the vocabulary occurs in ids (N,): (n_vocab,) int64."""
    counts = numpy.zeros(len(vocabulary), 'i8')
    for start in range(0, len(ids), SAMPLE):
        counts += numpy.bincount(ids[start : start + SAMPLE], minlength=len(vocabulary))
    return counts


@contextlib.contextmanager
def _no_music(sources):
    """Inside, an error because one of the sources is music and not a text says so: CorpusError."""

    def refuse(source):
        raise CorpusError(f'{source}: music; --midi learns it, --corpus is for texts') from None

    for source in sources:
        if source.lower().endswith(music.ENDINGS) and not is_folder(source):
            refuse(source)
    try:
        yield
    except CorpusError:
        for source in sources:
            if music.is_music(source):
                refuse(source)
        raise


def _load_corpus(args, model):
    """Data of one text in memory, or of folders and several texts."""
    is_small = len(args.corpus) == 1 and not is_large(args.corpus[0])
    if is_small or any(map(is_address, args.corpus)):  # what is fetched is read in memory
        return _load_text(args, model)
    return _load_texts(args, model)


@terminal.doing('reading')
def _load_text(args, model):
    """Data of a text in memory."""
    lines, name = aozora.Lines(), ' '.join(args.corpus)
    text = ''.join(read(source, args.encoding, args.errors, lines) for source in args.corpus)
    tokenizer, why = explained_tokenizer(text, args.level, args.tokenizer)
    count = text.count(REPLACEMENT) if args.errors == 'replace' else 0
    remarks = replaced(name, count) + lines.remarks(name)
    remarks.append(_cut_by(tokenizer, why, model))
    words = tokenize(text, tokenizer)
    about = 'text', tokenizer, None
    validation = _other_words(args.valid, args, remarks, *about) if args.valid else None
    return _from_words(args, *about, words, validation, remarks, model)


def _cut_by(tokenizer, why, model):
    """What has cut the text into words, and why: a line (str)."""
    why = f'as for {model.path}' if model else why
    names = {'mecab': 'by MeCab', 'space': 'at spaces', 'char': 'into characters'}
    return f'cut {names[tokenizer]} ({why})'


@terminal.doing('preparing the music')
def _load_music(args, model):
    """Data of .mid files: EOS stands before, between and after the pieces."""
    found = _read_music(args.midi, args, model and Setup.from_dict(model.setup))
    pieces, setup, remarks = found.pieces, found.setup, found.remarks
    if len(pieces) > 1:
        track = 'the track with most notes' if args.track is None else f'track {args.track}'
        track += '' if args.channel is None else f', channel {args.channel}'
        remarks.append(f'{len(pieces)} pieces, of each {track}')
    words = [EOS, *_in_a_row(pieces)]
    if args.valid:
        validation = _other_words(args.valid, args, remarks, 'music', 'space', setup)
    else:
        n_train = len(words) - int(len(words) * args.val_frac)
        words, validation = words[:n_train], words[n_train:]
    if args.transpose:  # only what is learned: validation should hear nothing twice
        n_train = len(words)
        words = music.also_transposed(words, *args.transpose)
        remarks.append(
            f'transposed: {len(words):,} words to learn instead of {n_train:,}'
            if len(words) > n_train
            else 'nothing is transposed: percussion stays, and keys from 0 to 127'
        )
    return _from_words(args, 'music', 'space', setup, words, validation, remarks, model)


def _known(args, model):
    """The words (list of str) that the Checkpoint of --init-from knew; none without one."""
    return model.vocabulary[: args.known] if model else []


@terminal.doing('reading')
def _load_texts(args, model):
    """Data of folders of texts, or of several texts, which may be larger than memory."""
    with _no_music(args.valid or []):
        valid = ''.join(read(source, args.encoding, args.errors) for source in args.valid or [])
    reading = Reading(**{name: getattr(args, name) for name in vars(Reading())})
    found = encode_texts(args.corpus, valid, LIBRARIES, reading, _known(args, model))
    n_val = found.n_valid if args.valid else int(len(found.ids) * args.val_frac)
    remarks = [*found.remarks, _cut_by(found.tokenizer, found.why, model)]
    about = ('text', found.tokenizer, None, found.vocabulary)
    return _split(args, *about, found.ids, n_val, found.checksum, remarks, found.files)


@terminal.doing('numbering the words')
def _from_words(args, kind, tokenizer, setup, words, validation, remarks, model):
    """Data of lists of words; validation (list or None: the last part of the words)."""
    n_val = int(len(words) * args.val_frac) if validation is None else len(validation)
    words = words + (validation or [])
    vocabulary = make_vocabulary(words, args.min_count, args.vocab_size, _known(args, model))
    ids = encode(words, vocabulary)
    return _split(args, kind, tokenizer, setup, vocabulary, ids, n_val, zlib.crc32(ids), remarks)


def _split(args, kind, tokenizer, setup, vocabulary, ids, n_val, crc, remarks, files=()):
    """Data of ids, the last n_val of which are for validation; files: sources known already."""
    given = args.corpus or args.midi
    source = given[0] + (f' and {len(given) - 1} more' if given[1:] else '')
    n_train = len(ids) - n_val
    if n_train < 2:
        raise CorpusError(
            f'{source}: {n_train} word to learn from; it takes 2, and a book to learn much'
        )
    validation = ids[n_train - 1 :] if n_val else None
    # cannot be read? It is better to know now than after hours
    test = _other_words(args.test, args, remarks, kind, tokenizer, setup) if args.test else None
    named = [*([] if files else given), *(args.valid or []), *(args.test or [])]
    sources = sorted({*files, *_files(named, kind)})
    about = (source, sources, kind, tokenizer, setup, vocabulary)
    return Data(*about, ids[:n_train], validation, crc, test, remarks)


def _files(sources, kind):
    """The absolute paths (list of str) of the files that sources are made of, links resolved."""
    endings = ('.txt', '.zip') if kind == 'text' else music.ENDINGS
    paths = []
    for source in sources:
        if is_folder(source):
            paths += files_in(find(source), endings)[0]
        elif not is_address(source):
            paths.append(find(source))
    return [os.path.realpath(path) for path in paths]


@terminal.doing('reading')
def _other_words(sources, args, remarks, kind, tokenizer, setup):
    """The words (list of str) of --valid or --test, made like those that are learned.

    Lines for the user are added to remarks. CorpusError or MusicError if they cannot be read.
    """
    if kind == 'text':
        with _no_music(sources):
            text = ''.join(read(source, args.encoding, args.errors) for source in sources)
            return tokenize(text, tokenizer)
    found = _read_music(sources, args, setup)
    remarks += found.remarks
    return _in_a_row(found.pieces)


def _read_music(sources, args, setup):
    for source in sources:
        if source.lower().endswith('.txt') and not is_folder(source):
            raise CorpusError(f'{source}: a text; --corpus learns it, --midi is for music')
    return music.read(sources, args.track, args.events, setup, args.channel, args.grid)


def _in_a_row(pieces):
    """The words (list of str) of pieces, EOS behind each."""
    return [word for piece in pieces for word in (*piece, EOS)]
