"""Text or music ► ids: the one room that knows both kinds.

    what = data.load(args)
    what.ids          (N,) int32, to learn
    what.validation   (M,) int32, to validate on, or None
    what.vocabulary   the word of each id

From here on the network knows no difference: both are sequences of words.
"""

import dataclasses
import zlib

import numpy

from read_midi import Setup
from support import aozora, music
from support.library import encode_folder
from support.source import CorpusError, find, is_folder
from support.text import EOS, choose_tokenizer, encode, make_vocabulary, read, tokenize

LIBRARIES = 'result/encoded'  # the ids of folders of texts are kept here


@dataclasses.dataclass
class Data:
    """What train.py learns from, and what generate.py has to know of it."""

    source: str  # what it was read from, for messages
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
        fields = ('kind', 'vocabulary', 'tokenizer', 'setup', 'crc')
        about = {name: getattr(self, name) for name in fields}
        return about | {'setup': self.setup and dataclasses.asdict(self.setup)}

    def shares(self, batchsize, args, processes):
        """How many words are learned and validated, and in how many streams: a line (str)."""
        words = (len(self.ids) - 1) // batchsize * batchsize
        line = f'{words:,} words to learn, in {batchsize} streams'
        if batchsize < args.batchsize:
            line += f' (a small text: not {args.batchsize})'
        if processes > 1:
            line += f' of {processes} processes'
        n_val = 0 if self.validation is None else len(self.validation) - 1
        return f'{line}; {n_val:,} to validate'


def load(args, saved):
    """Reads what train.py's options (argparse.Namespace) name: a Data.

    saved: the Checkpoint of a run that goes on, or None. CorpusError or MusicError, in one line,
    if it cannot be had, cannot be read, is too short, or is not what that run has learned.
    """
    if args.midi:
        learned = _load_music(args)
    elif is_folder(args.corpus):
        learned = _load_folder(args)
    else:
        learned = _load_text(args)
    if saved and (saved.vocabulary, saved.crc) != (learned.vocabulary, learned.crc):
        raise CorpusError(f'{learned.source}: not what {saved.path} was trained on')
    learned.remarks += _description(learned)
    if learned.validation is None and (args.patience or args.lr_decay < 1):
        learned.remarks.append('without validation --patience and --lr-decay do nothing')
    return learned


def _description(learned):
    """The size of what is learned, and a warning of music that hardly repeats: lines (list)."""
    n = len(learned.ids) + (0 if learned.validation is None else len(learned.validation) - 1)
    ratio = len(learned.vocabulary) / n
    line = f'{learned.source}: {n:,} tokens, {len(learned.vocabulary):,} types, '
    line += f'{ratio:.3f} types per token'
    if learned.kind == 'text':
        return [f'{line}, cut by {learned.tokenizer}']
    if ratio <= music.MAX_TYPES_PER_TOKEN:
        return [line]
    warning = (
        'so many different words can only be learned by heart; --events notes, another --track, '
        'a score instead of a recording, or several files have more in common'
    )
    return [line, warning]


def _load_text(args):
    lines = aozora.Lines()
    text = read(args.corpus, args.encoding, lines)
    tokenizer = choose_tokenizer(text, args.level)
    words = tokenize(text, tokenizer)
    validation = words_to_try(args.valid, args, 'text', tokenizer) if args.valid else None
    remarks = lines.remarks(args.corpus)
    return _from_words(args, 'text', tokenizer, None, words, validation, remarks)


def _load_music(args):
    """Data of .mid files: EOS stands before, between and after the pieces."""
    found = music.read(map(find, args.midi), args.track, args.events)
    pieces, setup, remarks = found.pieces, found.setup, found.remarks
    if len(pieces) > 1:
        track = 'the track with most notes' if args.track is None else f'track {args.track}'
        remarks.append(f'{len(pieces)} pieces, of each {track}')
    words = [EOS, *_in_a_row(pieces)]
    if args.valid:
        validation = words_to_try(args.valid, args, 'music', 'space', setup)
    else:
        n_train = len(words) - int(len(words) * args.val_frac)
        words, validation = words[:n_train], words[n_train:]
    if args.transpose:  # only what is learned: validation should hear nothing twice
        n_train = len(words)
        words = music.also_transposed(words, *args.transpose)
        remarks.append(f'transposed: {len(words):,} words to learn instead of {n_train:,}')
    return _from_words(args, 'music', 'space', setup, words, validation, remarks)


def _load_folder(args):
    """Data of the texts of a folder, which may be larger than memory."""
    valid = read(args.valid, args.encoding) if args.valid else ''
    options = (args.level, args.encoding, args.min_count, args.vocab_size)
    found = encode_folder(args.corpus, valid, LIBRARIES, *options)
    n_val = found.n_valid if args.valid else int(len(found.ids) * args.val_frac)
    remarks = [f'left out: {reason}' for reason in found.left_out] + found.remarks
    about = ('text', found.tokenizer, None, found.vocabulary)
    return _split(args, *about, found.ids, n_val, found.checksum, remarks)


def _from_words(args, kind, tokenizer, setup, words, validation, remarks):
    """Data of lists of words; validation (list or None: the last part of the words)."""
    n_val = int(len(words) * args.val_frac) if validation is None else len(validation)
    words = words + (validation or [])
    vocabulary = make_vocabulary(words, args.min_count, args.vocab_size)
    ids = encode(words, vocabulary)
    return _split(args, kind, tokenizer, setup, vocabulary, ids, n_val, zlib.crc32(ids), remarks)


def _split(args, kind, tokenizer, setup, vocabulary, ids, n_val, crc, remarks):
    """Data of ids, the last n_val of which are for validation."""
    source = args.corpus or args.midi[0]
    if args.midi and args.midi[1:]:
        source += f' and {len(args.midi) - 1} more'
    n_train = len(ids) - n_val
    if n_train < 2:
        raise CorpusError(
            f'{source}: {n_train} word to learn from; it takes 2, and a book to learn much'
        )
    validation = ids[n_train - 1 :] if n_val else None
    # cannot be read? It is better to know now than after hours
    test = words_to_try(args.test, args, kind, tokenizer, setup) if args.test else None
    return Data(
        source, kind, tokenizer, setup, vocabulary, ids[:n_train], validation, crc, test, remarks
    )


def words_to_try(source, args, kind, tokenizer, setup=None):
    """The words (list of str) of --valid or --test, made like those that are learned.

    CorpusError or MusicError if they cannot be read.
    """
    if kind == 'text':
        return tokenize(read(source, args.encoding), tokenizer)
    found = music.read([find(source)], args.track, args.events, setup)
    print(*found.remarks, sep='\n')
    return _in_a_row(found.pieces)


def _in_a_row(pieces):
    """The words (list of str) of pieces, EOS behind each."""
    return [word for piece in pieces for word in (*piece, EOS)]
