"""Text in, words out; words in, text out.

    text = read('holmes.txt')                 # decoded, Aozora Bunko's layout removed
    tokenizer = choose_tokenizer(text)        # 'mecab', 'space' or 'char'
    words = tokenize(text, tokenizer)         # ['ホームズ', 'は', ..., '<eos>', ...]
    vocabulary = make_vocabulary(words)
    ids = encode(words, vocabulary)           # int32
    detokenize(words, tokenizer)              # 'ホームズは...'

Every failure that an input can cause is a CorpusError with a one-line message.
"""

import codecs
import collections
import difflib
import functools
import re
import unicodedata

import MeCab
import numpy
import unidic_lite

from support import aozora, formats
from support.source import CorpusError, documents

EOS = '<eos>'  # end of a line
UNK = '<unk>'  # a word rarer than min_count

ENDINGS = ('.txt',)  # of the texts in a folder or zip
JAPANESE = ('cp932', 'shift_jis_2004', 'euc_jp', 'euc_jis_2004')  # encodings, after UTF-8
ISO_2022_JP = ('iso2022_jp', 'iso2022_jp_ext', 'iso2022_jp_2004')  # of mails, in 7 bits
REPLACEMENT = '\ufffd'  # what --errors replace puts in the place of bad bytes
MAX_LINE = 10000  # characters fed to MeCab at once; it gives up on 1.6 million
SAMPLE = 1000000  # characters that show what language a text is

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
    found = documents(source, ENDINGS)
    text = ''.join(read_document(data, name, encoding, errors, lines) for name, data in found)
    if not text.strip():
        raise CorpusError(f'{source}: there is no text in it')
    return text


def read_document(data, name, encoding=None, errors='strict', lines=None):
    """The text (str) of one document (bytes), cleaned, its last line ended; CorpusError.

    errors, lines: see `read`.
    """
    whole = decode(data, name, encoding, errors).replace('\r\n', '\n').replace('\r', '\n')
    text = aozora.clean(whole) if aozora.is_aozora(whole) else aozora.without_ruby(whole)
    if lines:
        lines.add(whole, text)
    return text if text.endswith('\n') else text + '\n'


def decode(data, name, encoding=None, errors='strict'):
    """bytes to str, composed, without byte order marks; CorpusError, with `name`, if it is no text.

    Without `encoding` it is UTF-8, UTF-16 or UTF-32 with a byte order mark, Shift_JIS, EUC-JP or
    ISO-2022-JP, the last three also with the characters of JIS X 0213. errors: see `read`.
    Not handled: UTF-16 without a mark, several encodings in one file, Japanese without any kana
    in another encoding than UTF-8, half-width katakana alone in Shift_JIS. Those need `encoding`.
    """
    foreign = formats.of_bytes(data)
    if foreign:
        raise CorpusError(f'{name}: {foreign}')
    chosen = encoding or _encoding_of(data, name, errors)
    if chosen == ISO_2022_JP[-1]:  # JIS X 0208 is a part of JIS X 0213, in row 13 with gaps
        data = re.sub(rb'\x1b\$[@B]', b'\x1b$(Q', data)
    try:
        text = _decoded(data, chosen, errors)
    except UnicodeDecodeError as error:
        raise CorpusError(_where(name, data, error, chosen)) from None
    except UnicodeError as error:
        raise CorpusError(f'{name}: not {chosen}: {error}') from None
    except (LookupError, ValueError):
        raise CorpusError(f'{chosen}: not a text encoding that Python knows') from None
    if re.search('[\ud800-\udfff]', text):  # halves of characters, as UTF-7 makes them
        raise CorpusError(f'{name}: not {chosen}')
    if '\0' in text:  # MeCab would stop here
        raise CorpusError(
            f'{name}: a binary file, or not {chosen}: character 0 at position {text.index(chr(0))}'
        )
    text = compose(text)
    foreign = formats.of_text(text)
    if foreign:
        raise CorpusError(f'{name}: {foreign}')
    return text


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
    for mark, encoding in (
        (b'\xff\xfe\0\0', 'utf-32'),
        (b'\0\0\xfe\xff', 'utf-32'),
        (b'\xff\xfe', 'utf-16'),
        (b'\xfe\xff', 'utf-16'),
    ):
        if data.startswith(mark):
            return encoding
    if b'\0' in data:
        raise CorpusError(
            f'{name}: a binary file, not a text (byte 0 at offset {data.index(0)}); '
            'a text in UTF-16 needs --encoding'
        )
    if re.search(rb'\x1b(\$[@B]|\$\([DOPQ]|\([IJ])', data) and data.isascii():
        fitting = (encoding for encoding in ISO_2022_JP if _fault(data, encoding) is None)
        return next(fitting, ISO_2022_JP[-1])
    fault = _fault(data, 'utf-8')
    if fault is None or _is_almost_utf_8(data):
        return 'utf-8'
    faults = {'utf-8': fault}
    for encoding in JAPANESE:
        faults[encoding] = _fault(data, encoding)
        if not faults[encoding] and _is_japanese(_decoded(data, encoding), encoding):
            return encoding
    texts = {encoding: _decoded(data, encoding, 'replace') for encoding in JAPANESE}
    broken = [encoding for encoding in JAPANESE if _is_japanese(texts[encoding], encoding)]
    if broken:  # the one with the fewest bad bytes
        return min(broken, key=lambda encoding: texts[encoding].count(REPLACEMENT))
    if errors == 'replace':
        return 'utf-8'
    furthest = max(filter(None, faults.values()), key=lambda fault: fault.start)
    raise CorpusError(_where(name, data, furthest, 'utf-8, Shift_JIS or EUC-JP'))


def _fault(data, encoding):
    """The UnicodeDecodeError of bytes in an encoding, or None if they fit it."""
    try:
        _decoded(data, encoding)
    except UnicodeDecodeError as error:
        return error
    return None


def _decoded(data, encoding, errors='strict'):
    """bytes.decode, except that it does not read the bytes A0, FD, FE and FF as cp932.

    No character has them; Python makes private ones of them.
    """
    text = data.decode(encoding, errors)
    private = (
        re.search('[\uf8f0-\uf8f3]', text) if codecs.lookup(encoding).name == 'cp932' else None
    )
    if private and errors == 'strict':
        start = len(text[: private.start()].encode(encoding))
        raise UnicodeDecodeError(encoding, data, start, start + 1, 'no character')
    return re.sub('[\uf8f0-\uf8f3]', REPLACEMENT, text) if private else text


def _is_almost_utf_8(data):
    """Are bytes UTF-8 with some bad ones among them? Other encodings rarely look so."""
    text = data.decode('utf-8', 'replace')
    bad, wide = text.count(REPLACEMENT), re.findall(f'[^\0-\x7f{REPLACEMENT}]', text)
    three_bytes = sum(char >= '\u0800' for char in wide)
    return three_bytes > bad or len(wide) > 10 * bad  # Shift_JIS has many that look like two bytes


def _is_japanese(text, encoding):
    """Is a text (str) that was decoded so Japanese? By its kana; other bytes may fit, too.

    German in Latin-1 passes for Shift_JIS, and Chinese in GB 2312 for EUC-JP. UTF-8 read as
    Shift_JIS is full of the kanji that begin with its lead bytes of kana.
    """
    wide = len(re.findall('[^\0-\x7f]', text))
    if text.count(REPLACEMENT) * 10 > wide:
        return False
    if encoding.startswith('euc'):
        return len(re.findall('[\u3041-\u30fa\uff66-\uff9f]', text)) * 10 >= wide > 0
    return re.search(_KANA, text) and len(re.findall('[縺繧繝]', text)) * 5 <= wide


def _where(name, data, error, encoding):
    """The message (str) for a byte that does not fit: which, where, what helps."""
    offset = error.start
    byte = f'byte 0x{data[offset]:02x} at offset {offset}'
    line = f'(line {data.count(bytes([10]), 0, offset) + 1})'
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
    lines = text.split('\n')
    if not lines[-1]:
        lines.pop()  # what follows the last line end is no line
    return [word for line in lines for word in (*tokenize_line(line, tokenizer), EOS)]


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
        elif wakati:
            space = ' '
        else:
            space = ' ' if tokenizer != 'mecab' and is_spaced(left, right) else ''
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
