"""Text in, words out; words in, text out.

    text = read('holmes.txt')                 # decoded, Aozora Bunko's layout removed
    tokenizer = choose_tokenizer(text)        # 'mecab', 'space' or 'char'
    words = tokenize(text, tokenizer)         # ['ホームズ', 'は', ..., '<eos>', ...]
    vocabulary = make_vocabulary(words)
    ids = encode(words, vocabulary)           # int32
    detokenize(words, tokenizer)              # 'ホームズは...'

Every failure that an input can cause is a CorpusError with a one-line message.
"""

import bisect
import codecs
import collections.abc
import contextlib
import difflib
import functools
import io
import itertools
import re
import sys
import tempfile
import unicodedata

import MeCab
import numpy
import unidic_lite

from support import aozora, formats
from support.source import LARGE, CorpusError, blocks, documents

EOS = '<eos>'  # end of a line
UNK = '<unk>'  # a word rarer than min_count

ENDINGS = ('.txt',)  # of the texts in a folder or zip
JAPANESE = ('cp932', 'shift_jis_2004', 'euc_jp', 'euc_jis_2004')  # encodings, after UTF-8
ISO_2022_JP = ('iso2022_jp', 'iso2022_jp_ext', 'iso2022_jp_2004')  # of mails, in 7 bits
REPLACEMENT = '\ufffd'  # what --errors replace puts in the place of bad bytes
MAX_LINE = 10000  # characters fed to MeCab at once; it gives up on 1.6 million
SAMPLE = 1000000  # characters that show what language a text is

_WIDE, _BAD = '\x80\U0010ffff', REPLACEMENT * 2  # the first and the last of such characters
_KANA = '[\u3041-\u30fa]'
# Japanese, Chinese; Thai and Lao; Tibetan and Burmese; Khmer: no spaces between words.
_UNSPACED = '[\u3041-\u30ff\u3400-\u9fff々\u0e00-\u109f\u1780-\u17ff\U00020000-\U0003ffff]'


# Bytes to text


def read(source, encoding=None, errors='strict', lines=None):
    """The text (str) of a path, a folder of .txt, a .zip or an http(s) address.

    Lines end with '\\n', characters are composed (NFC). Texts in Aozora Bunko's layout are
    cleaned, each by itself. `encoding` replaces the guess. errors: 'strict', or 'replace', which
    reads bad bytes as REPLACEMENT. lines: an aozora.Lines, which counts what is left out, or None.
    CorpusError.
    """
    text = ''.join(
        piece
        for name, data in documents(source, ENDINGS)
        for piece in read_document(data, name, encoding, errors, lines)
    )
    if not text.strip():
        raise CorpusError(f'{source}: there is no text in it')
    return text


def read_document(data, name, encoding=None, errors='strict', lines=None):
    """Yields the text (str) of one document, cleaned, in pieces of whole lines.

    data: bytes, or a source.File, which is never in memory as a whole, unless it is one long line,
    or one work in Aozora Bunko's layout. errors, lines: see `read`. CorpusError, always before the
    first piece.
    """
    with tempfile.SpooledTemporaryFile(LARGE) as file:
        whole = TextLines(decoded(data, name, encoding, errors), file)
        yield from map(compose, aozora.running_text(whole, lines))  # what notes describe, too


class TextLines(collections.abc.Sequence):
    """The lines of a text of any size: a sequence of str, as text.split('\\n') gives it.

    pieces: iterable of str, all but the last one of whole lines; file: a binary file, empty, which
    takes the text. Some pieces are in memory.
    """

    def __init__(self, pieces, file):
        self._first, self._starts = [0], [0]  # line, byte: where each piece begins, all ends
        # Lines above and below are near. Nothing that is kept there knows this object: in a circle,
        # the file would stay open until some later moment, and swallow a Ctrl-C while it closes.
        self._read = functools.lru_cache(4)(functools.partial(_lines_of, file, self._starts))
        for piece in pieces:
            self._starts.append(self._starts[-1] + file.write(piece.encode()))
            self._first.append(self._first[-1] + piece.count('\n'))
        self._first[-1] += 1  # the last line has no '\n'
        self._low = self._high = 0  # the numbers of the lines that were read last
        self._lines = []

    def __len__(self):
        return self._first[-1]

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        if not self._low <= i < self._high:
            i = range(len(self))[i]
            n = bisect.bisect(self._first, i) - 1
            self._lines = self._read(n)
            self._low, self._high = self._first[n : n + 2]
        return self._lines[i - self._low]

    def __iter__(self):
        for n, (first, below) in enumerate(itertools.pairwise(self._first)):
            yield from self._read(n)[: below - first]


def _lines_of(file, starts, n):
    """The lines (list of str) of piece n, which begins at byte starts[n] of a file."""
    file.seek(starts[n])
    return file.read(starts[n + 1] - starts[n]).decode().split('\n')


def decode(data, name, encoding=None, errors='strict'):
    """The text (str) of bytes: what `decoded` yields."""
    return ''.join(decoded(data, name, encoding, errors))


def decoded(data, name, encoding=None, errors='strict'):
    """Yields the text (str) of bytes or of a source.File in pieces of whole lines, but the last.

    Characters are composed, lines end with '\\n', byte order marks go. CorpusError, with `name`, if
    it is no text, perhaps only at its end. Without `encoding` it is UTF-8, UTF-16 or UTF-32 with a
    byte order mark, Shift_JIS, EUC-JP or ISO-2022-JP, the last three also with the characters of
    JIS X 0213. errors: see `read`. Not handled: UTF-16 without a mark, several encodings in one
    file, Japanese without any kana in another encoding than UTF-8, half-width katakana alone in
    Shift_JIS. Those need `encoding`.
    """
    foreign = formats.of_bytes(next(blocks(data), b''))
    if foreign:
        raise CorpusError(f'{name}: {foreign}')
    chosen = encoding or _encoding_of(data, name, errors)
    if chosen == ISO_2022_JP[-1]:  # JIS X 0208 is a part of JIS X 0213, in row 13 with gaps
        data = re.sub(rb'\x1b\$[@B]', b'\x1b$(Q', b''.join(blocks(data)))
    newlines, start, line, position = io.IncrementalNewlineDecoder(None, True), '', [], 0
    try:
        for text in _decoded(data, chosen, errors):
            if re.search('[\ud800-\udfff]', text):  # halves of characters, as UTF-7 makes them
                raise CorpusError(f'{name}: not {chosen}')
            if '\0' in text:  # MeCab would stop here
                place = f'character 0 at position {position + text.index(chr(0))}'
                raise CorpusError(f'{name}: a binary file, or not {chosen}: {place}')
            position += len(text)
            above, end, below = newlines.decode(text.replace('\ufeff', '')).rpartition('\n')
            if end:
                piece, line = compose(''.join((*line, above, end))), []
                start += piece[: formats.TEXT - len(start)]
                yield piece
            line.append(below)
    except UnicodeDecodeError as error:
        raise CorpusError(_where(name, data, error, chosen)) from None
    except UnicodeError as error:
        raise CorpusError(f'{name}: not {chosen}: {error}') from None
    except CorpusError:
        raise
    except (LookupError, ValueError):
        raise CorpusError(f'{chosen}: not a text encoding that Python knows') from None
    piece = compose(''.join(line) + newlines.decode('', final=True))
    foreign = formats.of_text(start + piece[: formats.TEXT])
    if foreign:
        raise CorpusError(f'{name}: {foreign}')
    yield piece


def compose(text):
    """The text (str) in Unicode's normal form C and without byte order marks (U+FEFF).

    macOS writes が as か and a mark. The CJK compatibility ideographs stay, which NFC would
    replace: U+FA19 is another character than 神 in JIS X 0213, and for who bears it in his name.
    """
    text = text.replace('\ufeff', '')
    if unicodedata.is_normalized('NFC', text):
        return text
    return re.sub(
        '[^\uf900-\ufaff\U0002f800-\U0002fa1f]+',
        lambda match: unicodedata.normalize('NFC', match[0]),
        text,
    )


def _encoding_of(data, name, errors):
    """The name of the encoding that bytes have; CorpusError if they have none with certainty."""
    marked = _encoding_mark(data)
    if marked:
        return marked
    zero = _offset(rb'\0', data)
    if zero is not None:
        raise CorpusError(
            f'{name}: a binary file, not a text (byte 0 at offset {zero}); '
            'a text in UTF-16 needs --encoding'
        )
    escape = rb'\x1b(\$[@B]|\$\([DOPQ]|\([IJ])'
    if all(map(bytes.isascii, blocks(data))) and _offset(escape, data) is not None:
        fitting = (encoding for encoding in ISO_2022_JP if _fault(data, encoding) is None)
        return next(fitting, ISO_2022_JP[-1])
    fault = _fault(data, 'utf-8')
    if fault is None or _is_almost_utf_8(data):
        return 'utf-8'
    faults = {'utf-8': fault}
    for encoding in JAPANESE:
        faults[encoding] = _fault(data, encoding)
        if not faults[encoding] and _is_japanese(data, encoding):
            return encoding
    broken = [encoding for encoding in JAPANESE if _is_japanese(data, encoding)]
    if broken:  # the one with the fewest bad bytes
        return min(broken, key=lambda encoding: _counts(data, encoding, _BAD))
    if errors == 'replace':
        return 'utf-8'
    furthest = max(filter(None, faults.values()), key=lambda fault: fault.start)
    raise CorpusError(_where(name, data, furthest, 'utf-8, Shift_JIS or EUC-JP'))


def _encoding_mark(data):
    """The encoding (str) that a byte order mark tells, 'utf-16' or 'utf-32', or None."""
    start = next(blocks(data), b'')
    if start.startswith((b'\xff\xfe\0\0', b'\0\0\xfe\xff')):
        return 'utf-32'
    return 'utf-16' if start.startswith((b'\xff\xfe', b'\xfe\xff')) else None


def _offset(pattern, data):
    """The offset of the first match of a pattern, four bytes at most, or None."""
    before, offset = b'', 0
    for block in blocks(data):
        match = re.search(pattern, before + block)
        if match:
            return offset - len(before) + match.start()
        before, offset = (before + block)[-3:], offset + len(block)
    return None


def _fault(data, encoding):
    """The UnicodeDecodeError of bytes in an encoding, or None if they fit it."""
    try:
        collections.deque(_decoded(data, encoding), maxlen=0)
    except UnicodeDecodeError as error:
        return error
    return None


def _decoded(data, encoding, errors='strict'):
    """Yields what bytes.decode gives (str), block by block.

    The bytes A0, FD, FE and FF of cp932 are bad ones: no character has them. Python makes private
    ones of them. The `start` of a UnicodeDecodeError is the offset in the document.
    """
    with contextlib.suppress(UnicodeError):
        b'a'.decode(encoding)  # LookupError if it is no encoding of texts
    codec = codecs.lookup(encoding).name
    if codec in ('utf-16', 'utf-32') and _encoding_mark(data) not in (codec, 'utf-32'):
        encoding = codec + ('-le' if sys.byteorder == 'little' else '-be')  # as bytes.decode does
    decoder, offset = codecs.getincrementaldecoder(encoding)(errors), 0
    for block in itertools.chain(blocks(data), [b'']):
        offset += len(block)
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:  # of what was left of the last block, and this one
            error.start += offset - len(error.object)
            raise
        private = re.search('[\uf8f0-\uf8f3]', text) if codec == 'cp932' else None
        if private and errors == 'strict':
            after = len(text[private.start() :].encode(encoding)) + len(decoder.getstate()[0])
            error = UnicodeDecodeError(encoding, block, 0, 1, 'no character')
            error.start = offset - after
            raise error
        yield re.sub('[\uf8f0-\uf8f3]', REPLACEMENT, text) if private else text


def _counts(data, encoding, *ranges):
    """How many characters of each range, the first and the last (str), bytes have: (n,) int64."""
    counts = numpy.zeros(len(ranges), 'i8')
    for text in _decoded(data, encoding, 'replace'):
        codes = numpy.frombuffer(text.encode('utf-32-le', 'surrogatepass'), '<u4')
        bounds = ((ord(first), ord(last)) for first, last in ranges)
        counts += [numpy.sum((low <= codes) & (codes <= high)) for low, high in bounds]
    return counts


def _is_almost_utf_8(data):
    """Are bytes UTF-8 with some bad ones among them? Other encodings rarely look so."""
    bad, wide, more = _counts(data, 'utf-8', _BAD, _WIDE, '\u0800\U0010ffff')
    wide, three_bytes = wide - bad, more - bad
    return three_bytes > bad or wide > 10 * bad  # Shift_JIS has many that look like two bytes


def _is_japanese(data, encoding):
    """Are bytes Japanese in this encoding? By their kana; other bytes may fit, too.

    German in Latin-1 passes for Shift_JIS, and Chinese in GB 2312 for EUC-JP. UTF-8 read as
    Shift_JIS is full of the kanji that begin with its lead bytes of kana.
    """
    counts = _counts(data, encoding, _WIDE, _BAD, 'ぁヺ', 'ｦﾟ', '縺縺', '繧繧', '繝繝')
    wide, bad, kana, half_width, *odd = counts
    if bad * 10 > wide:
        return False
    if encoding.startswith('euc'):
        return (kana + half_width) * 10 >= wide > 0
    return kana and sum(odd) * 5 <= wide


def _where(name, data, error, encoding):
    """The message (str) for a byte that does not fit: which, where, what helps."""
    offset, line = error.start, 1
    for block in blocks(data):
        if offset < len(block):
            break
        offset, line = offset - len(block), line + block.count(b'\n')
    byte = f'byte 0x{block[offset]:02x} at offset {error.start}'
    line = f'(line {line + block.count(bytes([10]), 0, offset)})'
    if 'end of data' in error.reason or 'incomplete' in error.reason:
        place = f'it ends inside a character, {byte} {line}'
        return f'{name}: {place}; --errors replace reads it as {REPLACEMENT}'
    return (
        f'{name}: {byte} is not {encoding} {line}; name another encoding with --encoding, '
        f'or --errors replace reads bad bytes as {REPLACEMENT}'
    )


# Text to words and back


def choose_tokenizer(text, level='word'):
    """What takes `text` apart: 'char', 'mecab' or 'space'; see `explained_tokenizer`."""
    return explained_tokenizer(text, level)[0]


def explained_tokenizer(text, level='word', tokenizer=None):
    """What takes `text` apart, 'char', 'mecab' or 'space', and why: (str, str).

    Level 'char': every character is a word. Level 'word': `tokenizer` or, if it is None, MeCab for
    Japanese, unless it already stands with spaces between its words; spaces for every other
    language, also for those that have none, such as Chinese and Thai: the reason says what helps.
    """
    if level == 'char':
        return 'char', '--level char'
    if tokenizer:
        return tokenizer, '--tokenizer'
    sample = text[:SAMPLE]
    unspaced = len(re.findall(_UNSPACED, sample))
    if unspaced * 10 < len(sample):
        return 'space', 'it is written with spaces; --tokenizer mecab is for Japanese'
    if len(re.findall(_UNSPACED + ' ', sample)) * 5 > unspaced:
        return 'space', 'spaces stand between its words already; --tokenizer mecab cuts anew'
    if len(re.findall(_KANA, sample)) * 20 >= unspaced:
        return 'mecab', 'it is Japanese; --tokenizer space cuts at spaces'
    return 'space', (
        'it is not Japanese, but has no spaces between words, so whole phrases are words: '
        '--level char is better, or --tokenizer mecab if it is Japanese'
    )


@functools.cache
def _mecab():
    return MeCab.Tagger(f'-r "{unidic_lite.DICDIR}/mecabrc" -d "{unidic_lite.DICDIR}" -Owakati')


def tokenize_line(line, tokenizer):
    """The words (list of str) of one line without its '\\n'. No word is empty.

    MeCab drops spaces; those inside a run of Latin letters and digits ("Study in
    Scarlet") are kept as words ' '.
    """
    if tokenizer == 'char':
        return list(line)
    if tokenizer == 'space':
        # not str.split(): the full-width space that opens a paragraph is a word
        return [word for word in re.split(r'[^\S\u3000]+', line) if word]
    words = []
    for piece in re.split('[ \t]+', line):
        if words and piece and is_spaced(words[-1], piece):
            words.append(' ')
        for i in range(0, len(piece), MAX_LINE):
            parsed = _mecab().parse(piece[i : i + MAX_LINE]).rstrip('\n')
            words += [word for word in parsed.split(' ') if word]
    return words


def is_spaced(left, right):
    """Does a space between two words (str) mean something? Not beside Japanese."""
    return not (_is_wide(left[-1]) or _is_wide(right[0]))


def tokenize(text, tokenizer):
    """The words (list of str) of a text, EOS after each line."""
    return list(tokenized(text, tokenizer))


def tokenized(text, tokenizer):
    """Yields the words (str) that `tokenize` lists."""
    lines = text.split('\n')
    if not lines[-1]:
        lines.pop()  # what follows the last line end is no line
    for line in lines:
        yield from tokenize_line(line, tokenizer)
        yield EOS


def detokenize(words, tokenizer, wakati=False):
    """The text (str) of a list of words; tokenize undone.

    wakati=True gives the article's form, a space between all words of a line.
    """
    return ''.join(detokenize_stream(words, tokenizer, wakati))


def detokenize_stream(words, tokenizer, wakati=False):
    """Yields what detokenize returns (str) word by word: as soon as a word comes, its text.

    Before the word stands what separates it from the last one; EOS is a line end.
    """
    left = EOS
    for right in words:
        if tokenizer == 'char' or {left, right} & {EOS, ' '}:
            space = ''
        else:
            space = ' ' if wakati or tokenizer != 'mecab' and is_spaced(left, right) else ''
        yield '\n' if right == EOS else space + right
        left = right


def _is_wide(char):
    """True for kanji, kana and full-width signs, which stand without spaces; Korean has them."""
    return unicodedata.east_asian_width(char) in 'WF' and not '\uac00' <= char <= '\ud7a3'


# Words and ids


def make_vocabulary(words, min_count=1, vocab_size=0, known=()):
    """The different words (list of str) in the order in which they first appear.

    words: an iterable of str, or a dict {word: how often it occurs}. Words that occur less than
    min_count times are left out, and all but the vocab_size most frequent (0: none); UNK
    stands for them. EOS always stays. known: the vocabulary (list of str) of a model that learns
    on. Its words come first and all stay, and vocab_size counts them, too.
    """
    counts = collections.Counter(words)
    old = set(known)
    new = [word for word in counts if word not in old]
    room = max(0, vocab_size - len(known)) if vocab_size else None
    most = sorted(new, key=counts.get, reverse=True)[:room]
    kept = {EOS, *(word for word in most if counts[word] >= min_count)}
    added = [word for word in new if word in kept]
    vocabulary = [*known, *added]
    if len(added) < len(new) and UNK not in vocabulary:
        vocabulary.append(UNK)
    return vocabulary


def encode(words, vocabulary):
    """(N,) int32 ids: positions in the vocabulary; UNK's for a word that is not in it.

    KeyError if there is such a word but no UNK.
    """
    index = {word: i for i, word in enumerate(vocabulary)}
    unknown = index.get(UNK)
    if unknown is None:
        return numpy.array([index[word] for word in words], 'i')
    return numpy.array([index.get(word, unknown) for word in words], 'i')


def near_words(word, vocabulary):
    """Up to five words (list of str) of the vocabulary that are written like `word`.

    They are compared in Unicode's normal form KC, in which half-width kana are kana.
    """
    word = unicodedata.normalize('NFKC', word)
    plain = {}  # the first word of each form
    for other in vocabulary:
        plain.setdefault(unicodedata.normalize('NFKC', other), other)
    near = [plain[form] for form in difflib.get_close_matches(word, plain, 5, cutoff=0.5)]
    near += [
        other
        for form, other in plain.items()
        if other not in near and (word in form or (len(form) > 1 and form in word))
    ]
    return near[:5]
