"""Text in, words out; words in, text out.

    text = read('holmes.txt')                 # decoded, Aozora Bunko layout removed
    cut = choose_cut(text)                    # 'mecab', 'space' or 'char'
    words = split_text(text, cut)             # ['ホームズ', 'は', ..., '<eos>', ...]
    vocabulary = make_vocabulary(words)
    ids = encode(words, vocabulary)           # int32
    join(words, cut)                          # 'ホームズは...'

    ids, notes = encode_folder('library')     # thousands of texts, in a file: numpy.memmap

Every failure that an input can cause is a CorpusError with a one-line message.
"""

import collections
import concurrent.futures
import concurrent.futures.process
import contextlib
import difflib
import functools
import hashlib
import http.client
import io
import itertools
import json
import multiprocessing
import os
import pathlib
import re
import signal
import threading
import unicodedata
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib

import filelock
import MeCab
import numpy
import tqdm
import unidic_lite

from support import terminal

EOS = '<eos>'  # end of a line
UNK = '<unk>'  # a word rarer than min_count

DATA = pathlib.Path(__file__).resolve().parents[1] / 'data'
ENCODINGS = ('utf-8-sig', 'cp932', 'shift_jis_2004')
MAX_DOWNLOAD = 64 << 20  # bytes; the longest zip of Aozora Bunko has about 2 MB
MAX_UNPACKED = 64 << 20  # bytes of all texts of a zip; more is a bomb, or wants a folder
TIMEOUT = 30  # seconds without an answer from an address
MAX_SECONDS = 600  # until all of its answer is there
MAX_LINE = 10000  # characters fed to MeCab at once; it gives up on 1.6 million
SAMPLE = 1000000  # characters that show what language a text is
ALONE = 4 << 20  # bytes up to which helpers, each of which takes seconds to start, do not pay
ENCODED = 1  # version of what encode_folder keeps
NOTES = {'vocabulary': list, 'cut': str, 'more': int, 'sum': int, 'left_out': list}


class CorpusError(ValueError):
    """A text cannot be had or cannot be read; the message is one line."""


# Where a text comes from


def find(name):
    """The path (str) of the file or folder `name`, or of data/`name` of this project.

    Only a bare name (no folder in it) that does not exist in the current
    folder is looked up in data/. CorpusError if there is none.
    """
    path = pathlib.Path(name)
    if not str(name):
        raise CorpusError('the name of the text is empty')
    if path.exists():
        return str(path)
    if path.name == str(name) and (DATA / name).exists():
        return str(DATA / name)
    raise CorpusError(f'{name}: no such file or folder, neither here nor in {DATA}')


def name_of(source):
    """A name for what is made from `source`: its last part without the ending."""
    if _is_address(source):
        source = re.split('[?#]', source)[0]
    return pathlib.Path(source).resolve().stem or 'corpus'


def read(source, encoding=None):
    """The text (str) of a path, a folder of .txt, a .zip or an http(s) address.

    Lines end with '\\n'. Texts in Aozora Bunko's layout are cleaned, each by
    itself. `encoding` replaces the guess (ENCODINGS, in that order).
    """
    text = ''.join(_cleaned(data, name, encoding) for name, data in _documents(source))
    if not text.strip():
        raise CorpusError(f'{source}: there is no text in it')
    return text


def _cleaned(data, name, encoding):
    """The text (str) of a document, which ends with a line end."""
    text = decode(data, name, encoding).replace('\r\n', '\n').replace('\r', '\n')
    text = clean_aozora(text) if is_aozora(text) else text
    return text if text.endswith('\n') else text + '\n'


def decode(data, name, encoding=None):
    """bytes to str; CorpusError with `name` and the offset of the byte that fits none."""
    if encoding and '\0' in encoding:
        raise CorpusError(f'{encoding!r}: not a text encoding that Python knows')
    if data.startswith((b'\xff\xfe', b'\xfe\xff')):
        encodings = [encoding or 'utf-16']
    elif encoding is None and b'\0' in data:
        raise CorpusError(
            f'{name}: a binary file, not a text (byte 0 at offset '
            f'{data.index(0)}); a text in UTF-16 needs --encoding'
        )
    else:
        encodings = [encoding] if encoding else ENCODINGS
    offset = 0
    for candidate in encodings:
        try:
            text = data.decode(candidate)
        except LookupError:
            raise CorpusError(f'{candidate}: not a text encoding that Python knows') from None
        except UnicodeDecodeError as error:
            offset = max(offset, error.start)
        except UnicodeError as error:
            raise CorpusError(f'{name}: not {candidate}: {error}') from None
        else:
            if re.search('[\ud800-\udfff]', text):  # halves of characters, as UTF-7 makes them
                raise CorpusError(f'{name}: not {candidate}')
            if encoding is None and candidate != 'utf-8-sig' and not re.search(_KANA, text):
                break  # German in Latin-1, say, passes for Shift_JIS
            if '\0' in text:  # MeCab would stop here
                raise CorpusError(
                    f'{name}: a binary file, or not {candidate}: '
                    f'character 0 at position {text.index(chr(0))}'
                )
            return text
    raise CorpusError(
        f'{name}: byte 0x{data[offset]:02x} at offset {offset} is not '
        f'{" or ".join(encodings)}; name the encoding with --encoding'
    )


def _is_address(source):
    return '://' in str(source)


def _documents(source):
    """Yields (name, bytes) of every text in `source`."""
    if _is_address(source):
        yield from _unzipped(source, _download(source))
        return
    source = find(source)
    if not pathlib.Path(source).is_dir():
        yield from _unzipped(source, _bytes_of(source))
        return
    for path in _texts_in(source):
        yield str(path), _bytes_of(path)


def is_folder(source):
    """Is this a folder of texts (bool)? CorpusError if it does not exist."""
    return not _is_address(source) and os.path.isdir(find(source))


def _texts_in(folder):
    """The paths (list of pathlib.Path) of the .txt files of a folder and those in it; CorpusError if there are none."""
    paths = sorted(
        path
        for path in pathlib.Path(folder).rglob('*')
        if _is_text(path.name) and os.path.isfile(path)
    )
    if not paths:
        raise CorpusError(f'{folder}: no .txt file in this folder')
    return paths


def _is_text(name):
    return name.lower().endswith('.txt') and not name.startswith('._')  # macOS's shadows


def _bytes_of(path):
    try:
        with terminal.opened(path) as file:
            return file.read()
    except OSError as error:
        raise CorpusError(f'{path}: {error.strerror}') from None


def _unzipped(name, data):
    """Yields (name, bytes): the texts of a zip, read in memory, or the data itself."""
    if not data.startswith(b'PK\x03\x04'):
        yield name, data
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                # Nothing is unpacked to a disk here, but who writes such names means no good.
                if re.search(r'^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)', member.filename):
                    raise CorpusError(
                        f'{name}: a name in this zip leads out of it: {member.filename!r}'
                    )
            members = sorted(
                (
                    member
                    for member in archive.infolist()
                    if _is_text(member.filename.split('/')[-1])
                ),
                key=lambda member: member.filename,
            )
            if not members:
                raise CorpusError(f'{name}: no .txt file in this zip')
            if sum(member.file_size for member in members) > MAX_UNPACKED:
                raise CorpusError(
                    f'{name}: more than {MAX_UNPACKED >> 20} MiB unpacked; '
                    'unpack it and give the folder'
                )
            for member in members:
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise CorpusError(
                        f'{name}: packed in an unusual way; unpack it and give the folder'
                    )
                with archive.open(
                    member
                ) as file:  # in pieces: a size that lies shows after the first
                    yield (
                        f'{name}/{member.filename}',
                        b''.join(iter(lambda: file.read(1 << 20), b'')),
                    )
    except CorpusError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        OverflowError,
        RuntimeError,
        ValueError,
    ) as error:
        raise CorpusError(f'{name}: a damaged zip: {error}') from None


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, fp, code, msg, headers, newurl):
        fp.close()  # or urllib would read all that comes with the redirect
        _check_scheme(newurl)
        return super().redirect_request(request, fp, code, msg, headers, newurl)


def _check_scheme(address):
    if urllib.parse.urlsplit(address).scheme not in ('http', 'https'):
        raise CorpusError(f'{address}: only http and https addresses are fetched')


def _download(address):
    """The bytes at an http(s) address, MAX_DOWNLOAD at most; CorpusError if they cannot be had in MAX_SECONDS."""
    result = concurrent.futures.Future()

    def fetch():
        try:
            result.set_result(_fetch(address))
        except BaseException as error:
            result.set_exception(error)

    # A thread of its own, which can be left waiting.
    threading.Thread(target=fetch, daemon=True).start()
    try:
        return result.result(MAX_SECONDS)
    except concurrent.futures.TimeoutError:
        raise CorpusError(f'{address}: not all there after {MAX_SECONDS} seconds') from None


def _fetch(address):
    """The same, however long it takes: TIMEOUT bounds only the wait for the next byte."""
    try:
        _check_scheme(address)
        request = urllib.request.Request(address, headers={'User-Agent': 'rnn-corpus'})
        with urllib.request.build_opener(_HttpOnly).open(request, timeout=TIMEOUT) as response:
            data = response.read(MAX_DOWNLOAD + 1)
            if response.length and len(data) <= MAX_DOWNLOAD:
                raise CorpusError(
                    f'{address}: the answer ends {response.length:,} bytes before its end'
                )
            kind = response.headers.get_content_type()
    except CorpusError:
        raise
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError is an OSError
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise CorpusError(f'{address}: {error}') from None
    if len(data) > MAX_DOWNLOAD:
        raise CorpusError(f'{address}: more than {MAX_DOWNLOAD >> 20} MiB')
    if kind == 'text/html':
        raise CorpusError(f'{address}: a web page; give the address of the .zip or .txt')
    return data


# Aozora Bunko's layout, https://www.aozora.gr.jp/annotation/

_SOURCE_LINE = re.compile(r'(?:翻訳の)?底本(?:・初出|の親本)?：')
_NUMERALS = '[一二三四五六七八九十百〇0-9０-９]+'
_HEADING = re.compile(
    rf'[ 　]*(?:第?{_NUMERALS}[章回節話部編篇]?|第{_NUMERALS}[章回節話部編篇][ 　][^。」]{{0,40}})[ 　]*'
)
_ACCENTS = {
    '`': '\u0300',
    "'": '\u0301',
    '^': '\u0302',
    '~': '\u0303',
    ':': '\u0308',
    '&': '\u030a',
    ',': '\u0327',
    '_': '\u0304',
}
_LETTERS = {
    'AE&': 'Æ',
    'ae&': 'æ',
    'OE&': 'Œ',
    'oe&': 'œ',
    's&': 'ß',
    'O/': 'Ø',
    'o/': 'ø',
    'L/': 'Ł',
    'l/': 'ł',
    'D/': 'Đ',
    'd/': 'đ',
    '!@': '¡',
    '?@': '¿',
}
_ACCENTED = re.compile(
    '|'.join(map(re.escape, _LETTERS))
    + "|(?i:[aeiou][`^~_]|[aeiouy]'|[aeiouy]:(?=\\w)|n~|[cghjswy]\\^|[au]&|c,(?=[aou])"
    # but not in l'amour, c'est, don't and not before the comma of a sentence
    "|[cnszlr]'(?![aeiouht])|[st],(?=[a-z]))"
)


def _is_rule(line):
    return re.fullmatch('-{20,}', line.strip()) is not None


def _bodies(lines):
    """[(first, last), ...] line numbers of the works in a text in Aozora Bunko's layout, else []."""
    rules = [i for i, line in enumerate(lines) if _is_rule(line)]
    headers = [
        (rule, following + 1)
        for rule, following in zip(rules, rules[1:])
        if re.search('テキスト中に現れる記号|●[^\n]{0,200}ルビ', '\n'.join(lines[rule:following]))
    ]
    nineties = [i for i, line in enumerate(lines) if line.startswith('［表記について］')]
    if not headers and nineties and rules and nineties[0] < rules[0]:
        headers = [(nineties[0], rules[0] + 1)]  # one rule, below the notes

    def end(start, limit):
        for i in range(start, limit):
            if lines[i].startswith('［＃本文終わり］') or _SOURCE_LINE.match(lines[i]):
                return i
            if _is_rule(lines[i]) and ''.join(lines[i + 1 : i + 2]).startswith(('●', '※', '底本')):
                return i  # notes at the end
        return limit

    if not headers:
        last = end(0, len(lines))
        return [(0, last)] if any('青空文庫' in line for line in lines[last:]) else []
    tops = [top for top, _ in headers[1:]] + [len(lines)]
    return [(start, end(start, limit)) for (_, start), limit in zip(headers, tops)]


def is_aozora(text):
    """True if `text` ('\\n' line ends) has the header or the footer of Aozora Bunko."""
    return bool(_bodies(text.split('\n')))


def clean_aozora(text):
    """The running text of works in Aozora Bunko's layout, one paragraph a line.

    Header, footer, headings, ruby, notes and blank lines go; 外字 notes and
    accents become the characters that they describe, or 〓 where they name none.
    """
    lines = text.split('\n')
    text = '\n\n'.join('\n'.join(lines[first:last]) for first, last in _bodies(lines))
    text = re.sub(r'《[^《》\n]*》|｜', '', text)
    text = re.sub(r'※［＃([^［］\n]*)］', _gaiji, text)
    text = re.sub(
        r'［＃(?:ここから)?([大中小]見出し)］.{0,500}?［＃(?:ここで)?\1終わり］',
        '',
        text,
        flags=re.S,
    )
    text = '\n'.join(
        _without_heading(line) if '見出し］' in line else line for line in text.split('\n')
    )
    for _ in range(9):  # notes may hold notes; a bound, so that nesting takes no quadratic time
        text = re.sub(r'［＃[^［］\n]*］', '', text)
    text = re.sub(r'［※[0-9０-９]+］', '', text)
    text = re.sub(r'〔([^〔〕\n]*)〕', _accents, text)
    text = text.replace('／″＼', '〴〵').replace('／＼', '〳〵')
    lines = ['', *text.split('\n'), '']
    return ''.join(
        line + '\n'
        for before, line, after in zip(lines, lines[1:], lines[2:])
        if line.strip()
        and not (
            _HEADING.fullmatch(line)
            and (line[0] in ' 　' or not before.strip() and not after.strip())
        )
    )


def _without_heading(line):
    """A line without the heading that its note names; nothing is left where the two differ."""
    line = re.sub(r'([^［］]{1,100})［＃「\1」は(?:同行|窓)?[大中小]見出し］', '', line)
    return '' if re.search('は[大中小]見出し］', line) else line


def _gaiji(match):
    """The character named by plane-row-cell of JIS X 0213 or by U+hex."""
    code = re.search(r'U\+([0-9A-Fa-f]{4,6})', match[1])
    if code:
        number = int(code[1], 16)
        valid = number < 0x110000 and not 0xD800 <= number < 0xE000
        return chr(number) if valid else '〓'
    code = re.search(r'(?<![0-9-])([12])-([0-9]{1,2})-([0-9]{1,2})(?![0-9-])', match[1])
    if not code:
        return '〓'
    plane, row, cell = map(int, code.groups())
    try:
        return (b'\x8f' * (plane - 1) + bytes([0xA0 + row, 0xA0 + cell])).decode('euc_jis_2004')
    except ValueError:  # no such cell, or an empty one
        return '〓'


def _accents(match):
    def letter(accented):
        two = accented[0]
        return _LETTERS.get(two) or unicodedata.normalize('NFC', two[0] + _ACCENTS[two[1]])

    inner, count = _ACCENTED.subn(letter, match[1])
    return inner if count else match[0]


# Text to words and back

_KANA = '[\u3041-\u30fa]'
_JAPANESE = '[\u3041-\u30ff\u3400-\u9fff々]'


def choose_cut(text, level='word'):
    """How `text` is cut into words: 'char', 'mecab' or 'space'.

    Level 'char': every character is a word. Level 'word': Japanese is cut by
    MeCab, unless it already stands with spaces between its words; every other
    language is cut at its spaces.
    """
    if level == 'char':
        return 'char'
    sample = text[:SAMPLE]
    japanese = len(re.findall(_JAPANESE, sample))
    spaced = len(re.findall(_JAPANESE + ' ', sample))
    if japanese * 10 < len(sample) or spaced * 5 > japanese:
        return 'space'
    return 'mecab'


@functools.cache
def _tagger():
    return MeCab.Tagger(f'-r "{unidic_lite.DICDIR}/mecabrc" -d "{unidic_lite.DICDIR}" -Owakati')


def split_line(line, cut):
    """The words (list of str) of one line without its '\\n'. No word is empty.

    MeCab drops spaces; those inside a run of Latin letters and digits ("Study in
    Scarlet") are kept as words ' '.
    """
    if cut == 'char':
        return list(line)
    if cut == 'space':
        # not str.split(): the full-width space that opens a paragraph is a word
        return [word for word in re.split(r'[^\S\u3000]+', line) if word]
    words = []
    for piece in re.split('[ \t]+', line):
        if words and piece and not (_is_wide(words[-1][-1]) or _is_wide(piece[0])):
            words.append(' ')
        for i in range(0, len(piece), MAX_LINE):
            parsed = _tagger().parse(piece[i : i + MAX_LINE]).rstrip('\n')
            words += [word for word in parsed.split(' ') if word]
    return words


def split_text(text, cut):
    """The words (list of str) of a text, EOS after each line."""
    lines = text.split('\n')
    if not lines[-1]:
        lines.pop()  # what follows the last line end is no line
    return [word for line in lines for word in (*split_line(line, cut), EOS)]


def separator(left, right, cut, wakati=False):
    """What stands between two words that follow each other: '' or ' '.

    wakati=True gives the article's form, a space between all words of a line.
    """
    if cut == 'char' or {left, right} & {EOS, ' '}:
        return ''
    if wakati:
        return ' '
    return '' if cut == 'mecab' or _is_wide(left[-1]) or _is_wide(right[0]) else ' '


def surface(word):
    """What is written for a word: itself, or a line end for EOS."""
    return '\n' if word == EOS else word


def join(words, cut, wakati=False):
    """The text (str) of a list of words; split_text undone."""
    return ''.join(
        separator(left, right, cut, wakati) + surface(right) if left else surface(right)
        for left, right in zip([''] + words, words)
    )


def _is_wide(char):
    """True for kanji, kana and full-width signs, which stand without spaces; Korean has them."""
    return unicodedata.east_asian_width(char) in 'WF' and not '\uac00' <= char <= '\ud7a3'


# Words and ids


def make_vocabulary(words, min_count=1, vocab_size=0):
    """The different words (list of str) in the order in which they first appear.

    Words that occur less than min_count times are left out, and all but the vocab_size most
    frequent (0: none); UNK stands for them.
    """
    return _frequent(collections.Counter(words), min_count, vocab_size)


def _frequent(counts, min_count, vocab_size):
    """The vocabulary of `counts`, a dict of words and how often they occur, in the order in which they first do."""
    most = sorted(counts, key=counts.get, reverse=True)[: vocab_size or None]
    kept = {EOS, *(word for word in most if counts[word] >= min_count)}
    vocabulary = [word for word in counts if word in kept]
    if len(vocabulary) < len(counts) and UNK not in vocabulary:
        vocabulary.append(UNK)
    return vocabulary


def encode(words, vocabulary):
    """(N,) int32 ids: positions in the vocabulary; UNK's for a word that is not in it.

    KeyError if there is such a word but no UNK.
    """
    number = {word: i for i, word in enumerate(vocabulary)}
    unknown = number.get(UNK)
    if unknown is None:
        return numpy.array([number[word] for word in words], 'i')
    return numpy.array([number.get(word, unknown) for word in words], 'i')


# A folder of any number of texts


def encode_folder(
    folder, more='', store='.', level='word', encoding=None, min_count=1, vocab_size=0
):
    """The ids of all texts of a folder, as those of read, split_text, make_vocabulary and encode, and of a text `more`.

    Returns (ids, notes): ids (N,) int32, a numpy.memmap of a file that is made in the folder `store` the
    first time, beside a .json with the notes, a dict: 'vocabulary', 'cut', 'more' (how many of the ids are of `more`),
    'sum' (zlib.crc32 of the ids), 'left_out' (a list of the texts that cannot be read and why). Both are named after
    the folder and a key made of names, sizes and times of the texts, and of the options. CorpusError if no text can be read.
    """
    folder, store = find(folder), pathlib.Path(store)
    paths = _texts_in(folder)
    facts = [_facts(path) for path in paths]
    key = json.dumps(
        [
            ENCODED,
            [(str(path.relative_to(folder)), *fact) for path, fact in zip(paths, facts)],
            zlib.crc32(more.encode()),
            level,
            encoding,
            min_count,
            vocab_size,
        ]
    )
    name = f'{name_of(folder)[:40]}-{hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:16]}'
    target, beside = store / f'{name}.ids', store / f'{name}.json'
    kept = _kept(target, beside)
    if kept:
        return kept
    store.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(store / f'{name}.lock'):
        kept = _kept(target, beside)  # by another process, while this one waited
        if not kept:
            with terminal.replacing(target) as file:
                notes = _encode_texts(
                    folder,
                    paths,
                    [size for size, *_ in facts],
                    more,
                    file,
                    level,
                    encoding,
                    min_count,
                    vocab_size,
                )
            with terminal.replacing(beside) as file:
                file.write(json.dumps(notes).encode())
            kept = numpy.memmap(target, 'i', 'r'), notes
    return kept


def _facts(path):
    """(size, time, can it be read?) of a file; what is gone meanwhile shows when it is read."""
    try:
        stat = path.stat()
        return stat.st_size, stat.st_mtime_ns, os.access(path, os.R_OK)
    except OSError:
        return 0, 0, False


def _kept(target, beside):
    """(ids, notes) that encode_folder has left, or None if they are not there, or damaged."""
    try:
        notes = json.loads(beside.read_bytes())
        ids = numpy.memmap(target, 'i', 'r')
        if (
            {name: type(value) for name, value in notes.items()} == NOTES
            and all(isinstance(word, str) for word in notes['vocabulary'])
            and zlib.crc32(ids) == notes['sum']
        ):
            return ids, notes
    except (AttributeError, FileNotFoundError, RecursionError, ValueError):
        pass
    return None


def _encode_texts(folder, paths, sizes, more, file, level, encoding, min_count, vocab_size):
    """Writes the ids of the texts of a folder, and of the text `more`, to a binary file; returns the notes (dict) on it."""
    number, counts, left_out, start = {}, [], [], ''
    for path in paths:  # until it is clear what they are
        with contextlib.suppress(CorpusError):
            start += _cleaned(_bytes_of(path), str(path), encoding)
        if len(start) >= SAMPLE:
            break
    cut = choose_cut(start, level)

    def write(words, ids):
        """Writes ids (N,) of words, a list in which they are positions, with the numbers that they have here."""
        table = numpy.array([number.setdefault(word, len(number)) for word in words], 'i')
        counts.extend([0] * (len(number) - len(counts)))
        for i, count in zip(table.tolist(), numpy.bincount(ids, minlength=len(words)).tolist()):
            counts[i] += count
        file.write(table[ids].tobytes())

    with tqdm.tqdm(total=sum(sizes), unit='B', unit_scale=True, disable=None) as progress:
        work = _in_helpers if sum(sizes) > ALONE else map
        for path, size, result in zip(
            paths, sizes, work(_encode_text, [(path, encoding, cut) for path in paths])
        ):
            if isinstance(result, str):
                left_out.append(result)
            else:
                write(*result)
            progress.update(size)
    if set(number) <= {EOS}:
        raise CorpusError(
            f'{left_out[0]}; none of the {len(paths)} texts can be read'
            if left_out
            else f'{folder}: there is no text in it'
        )
    more = split_text(more, cut)
    write(*_numbered(more))

    vocabulary = _frequent(dict(zip(number, counts)), min_count, vocab_size)
    file.flush()
    ids = numpy.memmap(file.name, 'i', 'r+')
    if len(vocabulary) < len(number) or UNK in vocabulary:
        place = {word: i for i, word in enumerate(vocabulary)}
        table = numpy.array([place.get(word, place.get(UNK)) for word in number], 'i')
        for start in range(0, len(ids), SAMPLE):
            ids[start : start + SAMPLE] = table[ids[start : start + SAMPLE]]
        ids.flush()
    return {
        'vocabulary': vocabulary,
        'cut': cut,
        'more': len(more),
        'sum': zlib.crc32(ids),
        'left_out': left_out,
    }


def _encode_text(job):
    """(words, ids) of the text at a path, see _numbered, or, if it cannot be read, why (str)."""
    path, encoding, cut = job
    try:
        return _numbered(split_text(_cleaned(_bytes_of(path), str(path), encoding), cut))
    except CorpusError as error:
        return str(error)


def _numbered(words):
    """(different words (list of str), ids (N,) int32 of the words among them)."""
    number = {}
    ids = numpy.array([number.setdefault(word, len(number)) for word in words], 'i')
    return list(number), ids


def _in_helpers(work, jobs):
    """Yields work(job) for jobs, in their order, computed by as many processes as there are cores."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    jobs = iter(jobs)
    # spawn: to fork a process that has threads is not safe
    with concurrent.futures.ProcessPoolExecutor(
        count, multiprocessing.get_context('spawn'), _end_with_parent
    ) as pool:
        handler = signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # Ctrl-C reaches helpers, too: this process says it
        try:
            pending = collections.deque(
                pool.submit(work, job) for job in itertools.islice(jobs, 4 * count)
            )
        finally:
            signal.signal(signal.SIGINT, handler)
        try:
            while pending:
                yield pending.popleft().result()
                pending.extend(
                    pool.submit(work, job) for job in itertools.islice(jobs, 1)
                )  # no more at once: memory
        except concurrent.futures.process.BrokenProcessPool:
            raise CorpusError(
                'a helper that reads texts was killed; is there enough memory?'
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent():
    """In a helper: ends it when the process that started it is gone, killed for instance; it would wait forever."""

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def near_words(word, vocabulary, n=5):
    """Up to n words of the vocabulary that are written like `word`."""
    near = difflib.get_close_matches(word, vocabulary, n, cutoff=0.5)
    near += [
        other
        for other in vocabulary
        if other not in near and (word in other or (len(other) > 1 and other in word))
    ]
    return near[:n]
