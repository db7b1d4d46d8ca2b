"""Text in, words out; words in, text out.

    text = read('holmes.txt')                 # decoded, Aozora Bunko's layout removed
    tokenizer = choose_tokenizer(text)        # 'mecab', 'space' or 'char'
    words = tokenize(text, tokenizer)         # ['ホームズ', 'は', ..., '<eos>', ...]
    vocabulary = make_vocabulary(words)
    ids = encode(words, vocabulary)           # int32
    detokenize(words, tokenizer)              # 'ホームズは...'

Every failure that an input can cause is a CorpusError with a one-line message.
"""

import collections
import difflib
import functools
import re
import unicodedata

import MeCab
import numpy
import unidic_lite

from support import aozora
from support.source import CorpusError, documents

EOS = '<eos>'  # end of a line
UNK = '<unk>'  # a word rarer than min_count

ENDINGS = ('.txt',)  # of the texts in a folder or zip
ENCODINGS = ('utf-8-sig', 'cp932', 'shift_jis_2004')
MAX_LINE = 10000  # characters fed to MeCab at once; it gives up on 1.6 million
SAMPLE = 1000000  # characters that show what language a text is

_KANA = '[\u3041-\u30fa]'
_JAPANESE = '[\u3041-\u30ff\u3400-\u9fff々]'


# Bytes to text


def read(source, encoding=None, lines=None):
    """The text (str) of a path, a folder of .txt, a .zip or an http(s) address.

    Lines end with '\\n'. Texts in Aozora Bunko's layout are cleaned, each by
    itself. `encoding` replaces the guess (ENCODINGS, in that order). lines: an aozora.Lines,
    which counts what is left out, or None. CorpusError.
    """
    found = documents(source, ENDINGS)
    text = ''.join(read_document(data, name, encoding, lines) for name, data in found)
    if not text.strip():
        raise CorpusError(f'{source}: there is no text in it')
    return text


def read_document(data, name, encoding=None, lines=None):
    """The text (str) of one document (bytes), cleaned, its last line ended; CorpusError.

    lines: see `read`.
    """
    whole = decode(data, name, encoding).replace('\r\n', '\n').replace('\r', '\n')
    text = aozora.clean(whole) if aozora.is_aozora(whole) else aozora.without_ruby(whole)
    if lines:
        lines.add(whole, text)
    return text if text.endswith('\n') else text + '\n'


def decode(data, name, encoding=None):
    """bytes to str; CorpusError with `name` and the offset of the byte that fits no encoding."""
    utf_16 = data.startswith((b'\xff\xfe', b'\xfe\xff'))
    if encoding is None and b'\0' in data and not utf_16:
        raise CorpusError(
            f'{name}: a binary file, not a text (byte 0 at offset {data.index(0)}); '
            'a text in UTF-16 needs --encoding'
        )
    candidates = [encoding] if encoding else ['utf-16'] if utf_16 else ENCODINGS
    offset = 0
    for candidate in candidates:
        try:
            text = data.decode(candidate)
        except UnicodeDecodeError as error:
            offset = max(offset, error.start)
            continue
        except UnicodeError as error:
            raise CorpusError(f'{name}: not {candidate}: {error}') from None
        except (LookupError, ValueError):
            raise CorpusError(f'{candidate}: not a text encoding that Python knows') from None
        if encoding is None and candidate in ENCODINGS[1:] and not re.search(_KANA, text):
            break  # German in Latin-1, say, passes for Shift_JIS
        if re.search('[\ud800-\udfff]', text):  # halves of characters, as UTF-7 makes them
            raise CorpusError(f'{name}: not {candidate}')
        if '\0' in text:  # MeCab would stop here
            raise CorpusError(
                f'{name}: a binary file, or not {candidate}: '
                f'character 0 at position {text.index(chr(0))}'
            )
        return text
    raise CorpusError(
        f'{name}: byte 0x{data[offset]:02x} at offset {offset} is not '
        f'{" or ".join(candidates)}; name the encoding with --encoding'
    )


# Text to words and back


def choose_tokenizer(text, level='word'):
    """What takes `text` apart: 'char', 'mecab' or 'space'.

    Level 'char': every character is a word. Level 'word': MeCab for Japanese, unless
    it already stands with spaces between its words; spaces for every other language.
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
        if words and piece and not (_is_wide(words[-1][-1]) or _is_wide(piece[0])):
            words.append(' ')
        for i in range(0, len(piece), MAX_LINE):
            parsed = _mecab().parse(piece[i : i + MAX_LINE]).rstrip('\n')
            words += [word for word in parsed.split(' ') if word]
    return words


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
            space = '' if tokenizer == 'mecab' or _is_wide(left[-1]) or _is_wide(right[0]) else ' '
        yield '\n' if right == EOS else space + right
        left = right


def _is_wide(char):
    """True for kanji, kana and full-width signs, which stand without spaces; Korean has them."""
    return unicodedata.east_asian_width(char) in 'WF' and not '\uac00' <= char <= '\ud7a3'


# Words and ids


def make_vocabulary(words, min_count=1, vocab_size=0):
    """The different words (list of str) in the order in which they first appear.

    words: an iterable of str, or a dict {word: how often it occurs}. Words that occur less than
    min_count times are left out, and all but the vocab_size most frequent (0: none); UNK
    stands for them. EOS always stays.
    """
    counts = collections.Counter(words)
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
    index = {word: i for i, word in enumerate(vocabulary)}
    unknown = index.get(UNK)
    if unknown is None:
        return numpy.array([index[word] for word in words], 'i')
    return numpy.array([index.get(word, unknown) for word in words], 'i')


def near_words(word, vocabulary):
    """Up to five words (list of str) of the vocabulary that are written like `word`."""
    near = difflib.get_close_matches(word, vocabulary, 5, cutoff=0.5)
    near += [
        other
        for other in vocabulary
        if other not in near and (word in other or (len(other) > 1 and other in word))
    ]
    return near[:5]
