"""A folder of any number of texts as ids in a memory-mapped file, which is made once.

    library = encode_folder('library', store='result/encoded')
    library.ids                               # (N,) int32, numpy.memmap

The ids are those of text.read, tokenize, make_vocabulary and encode; memory holds one text
at a time.
"""

import collections
import concurrent.futures
import concurrent.futures.process
import contextlib
import dataclasses
import hashlib
import itertools
import json
import multiprocessing
import os
import pathlib
import signal
import threading
import zlib

import filelock
import numpy
import tqdm

from support import aozora, terminal
from support.source import CorpusError, files_in, find, name_of, read_bytes
from support.text import ENDINGS, EOS, SAMPLE, UNK
from support.text import choose_tokenizer, make_vocabulary, read_document, tokenize

ALONE = 4 << 20  # bytes up to which helpers, each of which takes seconds to start, do not pay
FORMAT = 3  # of the files in the store; a part of their names


@dataclasses.dataclass
class Library:
    """The texts of a folder, encoded; behind them a text for validation."""

    ids: numpy.ndarray  # (N,) int32, a numpy.memmap: file order, that of the paths
    vocabulary: list  # of str
    tokenizer: str  # 'mecab', 'space' or 'char'
    n_valid: int  # how many of the last ids are those of the text for validation
    checksum: int  # zlib.crc32 of the ids
    left_out: list  # of str: the texts that cannot be read, each with the reason
    remarks: list  # of str: how many lines of the others are no running text


def encode_folder(
    folder, valid_text='', store='.', level='word', encoding=None, min_count=1, vocab_size=0
):
    """The Library of the .txt files below a folder and of valid_text (str, '' for none).

    The first time it is made in the folder `store`: a file .ids and a .json. Their name is that of
    the folder and a key made of names, sizes and times of the texts, and of the options, which
    are those of text.read, choose_tokenizer and make_vocabulary. CorpusError if no text can be
    read, OSError if the store cannot be written.
    """
    folder, store = find(folder), pathlib.Path(store)
    paths = files_in(folder, ENDINGS)
    files = [(str(path.relative_to(folder)), *_facts(path)) for path in paths]
    options = level, encoding, min_count, vocab_size
    key = json.dumps([FORMAT, files, zlib.crc32(valid_text.encode()), options])
    digest = hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()[:16]
    ids_path = store / f'{name_of(folder)[:40]}-{digest}.ids'
    store.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(ids_path.with_suffix('.lock')):  # one process makes it, others wait
        return _load(ids_path) or _make(ids_path, folder, paths, valid_text, *options)


def _facts(path):
    """(size, time, can it be read?) of a file; what is gone meanwhile shows when it is read."""
    try:
        stat = path.stat()
        return stat.st_size, stat.st_mtime_ns, os.access(path, os.R_OK)
    except OSError:
        return 0, 0, False


def _load(ids_path):
    """The Library that encode_folder has left, or None if it is not there, or damaged."""
    try:
        notes = json.loads(ids_path.with_suffix('.json').read_bytes())
        library = Library(numpy.memmap(ids_path, 'i', 'r'), **notes)
    except (FileNotFoundError, RecursionError, TypeError, ValueError):
        return None
    whole = (
        all(type(notes[field.name]) is field.type for field in dataclasses.fields(Library)[1:])
        and all(isinstance(word, str) for word in library.vocabulary)
        and zlib.crc32(library.ids) == library.checksum
    )
    return library if whole else None


def _make(ids_path, folder, paths, valid_text, level, encoding, min_count, vocab_size):
    """Encodes the texts at the paths and valid_text, writes both files; returns the Library."""
    tokenizer = _choose_tokenizer(paths, level, encoding)
    with terminal.replacing(ids_path) as file:
        writer = _Writer(file)
        left_out, lines = _write_texts(writer, paths, encoding, tokenizer)
        if set(writer.index) <= {EOS}:
            raise CorpusError(
                f'{left_out[0]}; none of the {len(paths)} texts can be read'
                if left_out
                else f'{folder}: there is no text in it'
            )
        words, valid_ids = _distinct(tokenize(valid_text, tokenizer))
        writer.write(words, valid_ids)
        vocabulary = make_vocabulary(dict(zip(writer.index, writer.counts)), min_count, vocab_size)
        checksum = writer.renumber(vocabulary)
    notes = {
        'vocabulary': vocabulary,
        'tokenizer': tokenizer,
        'n_valid': len(valid_ids),
        'checksum': checksum,
        'left_out': left_out,
        'remarks': lines.remarks(folder),
    }
    with terminal.replacing(ids_path.with_suffix('.json')) as file:
        file.write(json.dumps(notes).encode())
    return Library(numpy.memmap(ids_path, 'i', 'r'), **notes)


def _choose_tokenizer(paths, level, encoding):
    """choose_tokenizer of the first texts, as many as it looks at."""
    start = ''
    for path in paths:
        with contextlib.suppress(CorpusError):
            start += read_document(read_bytes(path), str(path), encoding)
        if len(start) >= SAMPLE:
            break
    return choose_tokenizer(start, level)


def _write_texts(writer, paths, encoding, tokenizer):
    """Writes the ids with a _Writer; returns (left_out as in Library, aozora.Lines)."""
    sizes = [_facts(path)[0] for path in paths]
    jobs = [(path, encoding, tokenizer) for path in paths]
    left_out, lines = [], aozora.Lines()
    with tqdm.tqdm(total=sum(sizes), unit='B', unit_scale=True, disable=None) as progress:
        work = _in_helpers if sum(sizes) > ALONE else map
        for size, (words, ids, reason, counted) in zip(sizes, work(_encode_text, jobs)):
            writer.write(words, ids)
            lines.total += counted.total
            lines.left_out += counted.left_out
            if reason:
                left_out.append(reason)
            progress.update(size)
    return left_out, lines


class _Writer:
    """Writes ids to a binary file, in the numbering in which their words come, and counts them."""

    def __init__(self, file):
        self.file = file
        self.index = {}  # word: id
        self.counts = []  # of each id

    def write(self, words, ids):
        """words: list of different str; ids: (N,) int32, positions in that list."""
        table = numpy.array([self.index.setdefault(word, len(self.index)) for word in words], 'i')
        self.counts.extend([0] * (len(self.index) - len(self.counts)))
        for i, count in zip(table.tolist(), numpy.bincount(ids, minlength=len(words)).tolist()):
            self.counts[i] += count
        self.file.write(table[ids].tobytes())

    def renumber(self, vocabulary):
        """Makes all ids in the file positions in the vocabulary; returns their zlib.crc32."""
        self.file.flush()
        ids = numpy.memmap(self.file.name, 'i', 'r+')
        if vocabulary != list(self.index):
            place = {word: i for i, word in enumerate(vocabulary)}
            table = numpy.array([place.get(word, place.get(UNK)) for word in self.index], 'i')
            for start in range(0, len(ids), SAMPLE):
                ids[start : start + SAMPLE] = table[ids[start : start + SAMPLE]]
            ids.flush()
        return zlib.crc32(ids)


def _encode_text(job):
    """(different words, ids, None, aozora.Lines) of a text; ([], [], why (str), Lines) of none.

    job: (path, encoding, tokenizer).
    """
    path, encoding, tokenizer = job
    lines = aozora.Lines()
    try:
        text = read_document(read_bytes(path), str(path), encoding, lines)
        return *_distinct(tokenize(text, tokenizer)), None, lines
    except CorpusError as error:
        return *_distinct([]), str(error), lines


def _distinct(words):
    """(the different words (list of str), ids (N,) int32 of the words, positions in that list)."""
    index = {}
    ids = numpy.array([index.setdefault(word, len(index)) for word in words], 'i')
    return list(index), ids


def _in_helpers(work, jobs):
    """Yields work(job) in the order of the jobs, from one process for each core."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    jobs = iter(jobs)
    # spawn: to fork a process that has threads is not safe
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(count, context, _end_with_parent) as pool:
        # Ctrl-C reaches helpers, too; only this process reports it.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            first = itertools.islice(jobs, 4 * count)  # no more at once: memory
            pending = collections.deque(pool.submit(work, job) for job in first)
        finally:
            signal.signal(signal.SIGINT, handler)
        try:
            while pending:
                yield pending.popleft().result()
                pending.extend(pool.submit(work, job) for job in itertools.islice(jobs, 1))
        except concurrent.futures.process.BrokenProcessPool:
            raise CorpusError(
                'a helper that reads texts was killed; is there enough memory?'
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent():
    """Ends a helper when the process that started it is gone; otherwise it would wait forever."""

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
