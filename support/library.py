"""Any number of texts as ids in a memory-mapped file, which is made once.

    library = encode_texts(['library', 'more.txt'], store='result/encoded')
    library.ids                               # (N,) int32, numpy.memmap

The ids are those of text.read, tokenize, make_vocabulary and encode; memory holds one
work of a text at a time, or a part of it.
"""

import array
import collections
import concurrent.futures
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

from support import aozora, terminal
from support.source import LARGE, CorpusError, documents_of_file, files_in, find, name_of
from support.source import passed_over
from support.text import ENDINGS, EOS, REPLACEMENT, SAMPLE, UNK, encode, explained_tokenizer
from support.text import make_vocabulary, read_document, tokenize, tokenized
from support.threads import cores

FORMAT = 6  # of the files in the store, and of what texts are read as; a part of their names


@dataclasses.dataclass
class Library:
    """Texts, encoded; behind them a text for validation."""

    ids: numpy.ndarray  # (N,) int32, a numpy.memmap: in the order of the sources and paths
    vocabulary: list  # of str
    tokenizer: str  # 'mecab', 'space' or 'char'
    why: str  # that tokenizer
    n_valid: int  # how many of the last ids are those of the text for validation
    checksum: int  # zlib.crc32 of the ids
    files: list  # of str: the absolute paths of the texts
    remarks: list  # of str: what cannot be read, and why; what is left out or replaced


@dataclasses.dataclass(frozen=True)
class Reading:
    """How texts are read: the options of text.read, explained_tokenizer and make_vocabulary."""

    level: str = 'word'
    tokenizer: str | None = None
    encoding: str | None = None
    errors: str = 'strict'
    min_count: int = 1
    vocab_size: int = 0


def encode_texts(sources, valid_text='', store='.', reading=Reading(), known=()):
    """The Library of texts and of valid_text (str, '' for none); reading: a Reading.

    known: see make_vocabulary. sources: list of str, paths of texts, .zip files and folders of
    both. The first time it is made in the folder `store`: a file .ids and a .json. Their name is
    that of the first source and a key made of names, sizes and times of the texts, of the reading
    and of the known words. A text of a folder that cannot be read is left out, with a remark.
    CorpusError if one that is named itself cannot be read, or none, OSError if the store cannot be
    written.
    """
    sources, store = [find(source) for source in sources], pathlib.Path(store)
    paths, remarks = [], []
    for source in sources:
        if os.path.isdir(source):
            found, others = files_in(source, (*ENDINGS, '.zip'))
            remarks += passed_over(source, others, (*ENDINGS, '.zip'))
            paths += map(str, found)
        else:
            paths.append(source)
    files = [(path, *_facts(path)) for path in map(os.path.realpath, paths)]
    crc = zlib.crc32(valid_text.encode())
    key = json.dumps([FORMAT, sources, files, crc, dataclasses.astuple(reading), *known])
    digest = hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()[:16]
    ids_path = store / f'{name_of(sources[0])[:40]}-{digest}.ids'
    store.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(ids_path.with_suffix('.lock')):  # one process makes it, others wait
        library = _load(ids_path) or _make(ids_path, paths, sources, valid_text, reading, known)
    return dataclasses.replace(library, remarks=remarks + library.remarks)


def _facts(path):
    """(size, time, can it be read?) of a file; what is gone meanwhile shows when it is read."""
    try:
        stat = os.stat(path)
        return stat.st_size, stat.st_mtime_ns, os.access(path, os.R_OK)
    except OSError:
        return 0, 0, False


def _load(ids_path):
    """The Library that encode_texts has left, or None if it is not there, or damaged."""
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


def _make(ids_path, paths, sources, valid_text, reading, known):
    """Encodes the texts at the paths and valid_text, writes both files; returns the Library."""
    tokenizer, why = _choose_tokenizer(paths, reading)
    with terminal.replacing(ids_path) as file:
        writer = _Writer(file)
        remarks = _write_texts(writer, paths, sources, reading, tokenizer)
        if set(writer.index) <= {EOS}:
            raise CorpusError(
                f'{remarks[0]}; none of the {len(paths)} texts can be read'
                if remarks
                else f'{paths[0]}: there is no text in it'
            )
        words = tokenize(valid_text, tokenizer)
        valid_words = list(dict.fromkeys(words))
        writer.write(valid_words, encode(words, valid_words))
        counts = dict(zip(writer.index, writer.counts.tolist()))
        vocabulary = make_vocabulary(counts, reading.min_count, reading.vocab_size, known)
        checksum = writer.renumber(vocabulary)
    notes = {
        'vocabulary': vocabulary,
        'tokenizer': tokenizer,
        'why': why,
        'n_valid': len(words),
        'checksum': checksum,
        'files': [os.path.realpath(path) for path in paths],
        'remarks': remarks,
    }
    with terminal.replacing(ids_path.with_suffix('.json')) as file:
        file.write(json.dumps(notes).encode())
    return Library(numpy.memmap(ids_path, 'i', 'r'), **notes)


def _choose_tokenizer(paths, reading):
    """explained_tokenizer of the first texts, as many as it looks at."""
    texts = (text for path in paths for text, _ in _texts(path, reading, aozora.Lines()))
    start = ''
    if reading.level == 'word' and not reading.tokenizer:
        for text in texts:
            start += text
            if len(start) >= SAMPLE:
                break
    return explained_tokenizer(start, reading.level, reading.tokenizer)


def _write_texts(writer, paths, sources, reading, tokenizer):
    """Writes the ids of the texts with a _Writer; returns the remarks (list of str).

    CorpusError if one of the paths is itself a source, and cannot be read.
    """
    sizes = [_facts(path)[0] for path in paths]
    jobs = [(path, reading, tokenizer) for path in paths]
    remarks, lines = [], aozora.Lines()
    with terminal.doing('cutting texts into words', sum(sizes)) as advance:
        # one file needs no helper, and is nowhere in memory as a whole then
        work = _in_helpers if sum(sizes) > LARGE and len(paths) > 1 else map
        for path, size, parts in zip(paths, sizes, work(_encode_file, jobs)):
            left = size
            for part in parts:
                if part.left_out and path in sources:
                    raise CorpusError(part.left_out[0])
                writer.write(part.words, part.ids)
                remarks += [f'left out: {reason}' for reason in part.left_out]
                remarks += replaced(path, part.replaced)
                lines.total += part.lines.total
                lines.left_out += part.lines.left_out
                advance(min(part.size, left))
                left -= min(part.size, left)
            advance(left)
    return remarks + lines.remarks(f'{len(paths):,} texts' if paths[1:] else paths[0])


class _Writer:
    """Writes ids to a binary file, in the numbering in which their words come, and counts them."""

    def __init__(self, file):
        self.file = file
        self.index = {}  # word: id
        self.counts = numpy.zeros(0, 'i8')  # of each id

    def write(self, words, ids):
        """words: list of different str; ids: (N,) int32, positions in that list."""
        table = numpy.array([self.index.setdefault(word, len(self.index)) for word in words], 'i')
        self.counts.resize(len(self.index), refcheck=False)  # with zeros
        self.counts[table] += numpy.bincount(ids, minlength=len(words))
        self.file.write(table[ids])

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


@dataclasses.dataclass
class _Part:
    """A part of a text or .zip, encoded; the last one also tells what happened to the whole."""

    words: list  # of str, all different
    ids: numpy.ndarray  # (N,) int32, positions in that list
    size: int  # bytes of its text in UTF-8
    left_out: list  # of str: why which text cannot be read
    replaced: int  # bad bytes
    lines: aozora.Lines


def _encode_file(job):
    """Yields the _Parts of a text or .zip, of about SAMPLE words each.

    job: (path, reading, tokenizer).
    """
    path, reading, tokenizer = job
    index, ids, size = {}, array.array('i'), 0
    left_out, count, lines = [], 0, aozora.Lines()
    for text, reason in _texts(path, reading, lines):
        ids.extend(index.setdefault(word, len(index)) for word in tokenized(text, tokenizer))
        size += len(text.encode())
        left_out += [reason] if reason else []
        count += text.count(REPLACEMENT)
        if len(ids) > SAMPLE:
            yield _Part(list(index), numpy.array(ids, 'i'), size, [], 0, aozora.Lines())
            index, ids, size = {}, array.array('i'), 0
    count = count if reading.errors == 'replace' else 0
    yield _Part(list(index), numpy.array(ids, 'i'), size, left_out, count, lines)


def replaced(name, count):
    """What --errors replace has done to a text: a line (in a list of str), or none."""
    return [f'{name}: bad bytes were read as {REPLACEMENT}, {count:,} times'] if count else []


def _texts(path, reading, lines):
    """Yields (piece of a text, None), or ('', why a text cannot be read), of a file or .zip."""
    try:
        for name, data in documents_of_file(path, ENDINGS):
            try:
                for piece in read_document(data, name, reading.encoding, reading.errors, lines):
                    yield piece, None
            except CorpusError as error:
                yield '', str(error)
    except CorpusError as error:
        yield '', str(error)


def _in_helpers(work, jobs):
    """Yields list(work(job)) in the order of the jobs, from one process for each core."""
    count = cores()
    if hasattr(os, 'sched_getaffinity'):
        count = min(count, len(os.sched_getaffinity(0)))
    jobs = iter(jobs)
    # spawn: to fork a process that has threads is not safe
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(count, context, _end_with_parent) as pool:
        # Ctrl-C reaches helpers, too; only this process reports it. They inherit what is blocked.
        can_block = hasattr(signal, 'pthread_sigmask')  # not on Windows
        if can_block:
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            first = itertools.islice(jobs, 4 * count)  # no more at once: memory
            pending = collections.deque(pool.submit(_listed, work, job) for job in first)
        finally:
            if can_block:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            while pending:
                yield pending.popleft().result()
                pending.extend(pool.submit(_listed, work, job) for job in itertools.islice(jobs, 1))
        except concurrent.futures.BrokenExecutor:
            raise CorpusError(
                'a helper that reads texts was killed; is there enough memory?'
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _listed(work, job):
    """What work(job) yields: a generator cannot go from one process to another."""
    return list(work(job))


def _end_with_parent():
    """Ends a helper when the process that started it is gone; otherwise it would wait forever.

    Ctrl-C is for that process alone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
