"""A text that is read in blocks is the text that is read at once, wherever a block ends."""

import tracemalloc
import unicodedata

import numpy
import pytest

from support.library import Reading, encode_texts
from support.source import BLOCK, LARGE, CorpusError, File
from support.text import decode, encode, make_vocabulary, read, read_document
from support.text import tokenize
from test_aozora import in_layout

JAPANESE = '霧の深い朝だった。「猫だ」とホームズは言った。\n'
ENCODINGS = ['utf-8', 'cp932', 'euc_jp', 'iso2022_jp', 'utf-16', 'utf-8-sig', 'shift_jis_2004']


def expected(data, encoding):
    """bytes decoded at once: composed, every line end '\\n', no marks."""
    text = data.decode(encoding).replace('\ufeff', '').replace('\r\n', '\n').replace('\r', '\n')
    return unicodedata.normalize('NFC', text)


def cleaned(data, **options):
    """The pieces (list of str) of a document, which are the same from bytes and from a file."""
    with open('large.txt', 'wb') as file:
        file.write(data)
    pieces = [*read_document(File('large.txt'), 'large.txt', **options)]
    assert ''.join(read_document(data, 'large.txt', **options)) == ''.join(pieces)
    return pieces


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_a_block_ends_anywhere_in_a_character(folder, encoding):
    """A character has up to four bytes, and ISO-2022-JP has three before and after it."""
    text = JAPANESE * (2 * BLOCK // len(JAPANESE.encode(encoding)))
    for shift in range(8):
        data = ('a' * shift + '\n' + text).encode(encoding)
        pieces = cleaned(data)
        assert len(data) > BLOCK and len(pieces) > 0
        assert ''.join(pieces) == expected(data, encoding)


@pytest.mark.parametrize(
    'awkward', ['か\u3099', '\r\n', '\r', '\r\r\n', '\ufeff', '\r\ufeff\n', '𠮷']
)
def test_a_block_ends_inside_of_what_belongs_together(folder, awkward):
    for position in range(-9, 3):
        letters = 'x' * (BLOCK + position)
        data = f'{letters}{awkward}y\nz{awkward}'.encode()
        text = expected(data, 'utf-8')
        assert ''.join(cleaned(data)) == text + '\n' * (not text.endswith('\n'))


def test_a_line_longer_than_many_blocks(folder):
    data = ('あ' * BLOCK).encode()
    assert ''.join(cleaned(data)) == 'あ' * BLOCK + '\n'
    assert ''.join(cleaned(b'one\n' + data + b'\ntwo')) == f'one\n{"あ" * BLOCK}\ntwo\n'


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'cp932', 'euc_jp'])
def test_bad_bytes_are_told_with_their_place(folder, encoding):
    """In the second block, and where the first ends; the offset counts a byte order mark, too."""
    line = JAPANESE.encode(encoding.removesuffix('-sig'))
    mark = b'\xef\xbb\xbf' * encoding.endswith('-sig')
    for lines in (BLOCK // len(line), 2 * BLOCK // len(line)):
        data = mark + line * lines + b'\xff' + line
        place = f'byte 0xff at offset {len(mark) + lines * len(line)} .*line {lines + 1}'
        for given in (None, encoding):
            with pytest.raises(CorpusError, match=f'large.txt: {place}'):
                cleaned(data, encoding=given)
        text = ''.join(cleaned(data, errors='replace'))
        assert text == JAPANESE * lines + '\ufffd' + JAPANESE
        cut = mark + line * lines + line[:-2]  # without the line end, and inside of 。
        with pytest.raises(CorpusError, match='ends inside a character'):
            cleaned(cut)
        text = ''.join(cleaned(cut, errors='replace'))
        assert text == (JAPANESE * (lines + 1))[:-2] + '\ufffd\n'


def test_binary_files_are_told_apart(folder):
    with pytest.raises(CorpusError, match=f'byte 0 at offset {BLOCK + 5}'):
        cleaned(b'a' * (BLOCK + 5) + b'\0')
    with pytest.raises(CorpusError, match=f'character 0 at position {BLOCK // 2 + 5}'):
        cleaned(('a' * (BLOCK // 2 + 5) + '\0').encode('utf-16-le'), encoding='utf-16-le')
    with pytest.raises(CorpusError, match='hex: not a text encoding'):
        cleaned(b'a' * BLOCK, encoding='hex')
    assert ''.join(cleaned('猫\n'.encode('utf-16-le'), encoding='utf-16')) == '猫\n'  # no mark


def test_a_long_work_and_a_collection_of_works(folder):
    """Header, footer, ruby, notes and rare characters, in whichever block they stand."""
    body = (
        '　親譲《おやゆず》りの｜無鉄砲《むてっぽう》※［＃「木＋吶のつくり」、第3水準1-85-54］。\n'
    )
    clean = '　親譲りの無鉄砲枘。\n'
    work = in_layout(body * 9)
    lines = 2 * BLOCK // len(body.encode())
    for encoding in ('utf-8', 'cp932'):
        assert ''.join(cleaned(in_layout(body * lines).encode(encoding))) == clean * lines
        for shift in range(2):
            data = ('あ\n' * shift + work * 200).replace('\n', '\r\n').encode(encoding)
            text = ''.join(cleaned(data))
            assert text.endswith(clean * 9) and text.count(clean) == 9 * 200
            assert set(text.replace('あ\n', '').splitlines(keepends=True)) == {clean}


@pytest.mark.parametrize('is_ruby', [True, False])
def test_ruby_far_away_tells_that_katakana_are_ruby(folder, is_ruby):
    filler = '山が高い。\n' * (2 * BLOCK // 16)
    near, far = '山《ヤマ》\n', '木《き》\n' if is_ruby else '木\n'
    cleared = '山\n' if is_ruby else near
    assert ''.join(cleaned((near + filler + far).encode())) == cleared + filler + '木\n'
    assert ''.join(cleaned((far + filler + near).encode())) == '木\n' + filler + cleared


def test_a_heading_of_many_lines_in_a_text_without_header(folder):
    heading = '［＃ここから大見出し］\n一\n二\n［＃ここで大見出し終わり］\n'
    for n in range(1990, 2010):  # as many lines are cleaned at once
        assert ''.join(cleaned(('山\n' * n + heading + '木\n').encode())) == '山\n' * n + '\n木\n'


# A large file is encoded like a folder


@pytest.mark.parametrize('options', [{}, {'level': 'char'}, {'min_count': 900}, {'vocab_size': 99}])
def test_a_large_file_is_what_it_is_in_memory(folder, options):
    random = numpy.random.RandomState(0)
    text = '\n'.join(' '.join(row) for row in random.randint(0, 999, (120000, 10)).astype(str))
    (folder / 'large.txt').write_bytes(text.replace('\n', '\r\n').encode())
    assert (folder / 'large.txt').stat().st_size > LARGE
    library = encode_texts(['large.txt'], store='store', reading=Reading(**options))
    words = tokenize(text + '\n', 'char' if options.get('level') else 'space')
    limits = {name: value for name, value in options.items() if name != 'level'}
    vocabulary = make_vocabulary(words, **limits)
    assert library.vocabulary == vocabulary
    numpy.testing.assert_array_equal(library.ids, encode(words, vocabulary))


def test_a_large_file_with_a_bad_byte(folder):
    (folder / 'library').mkdir()
    (folder / 'library' / 'large.txt').write_bytes(b'a line\n' * (LARGE // 7 + 1) + b'\xff')
    (folder / 'library' / 'small.txt').write_text('one\n')
    with pytest.raises(CorpusError, match='byte 0xff'):
        encode_texts(['library/large.txt'])
    library = encode_texts(['library'])
    assert library.vocabulary == ['one', '<eos>'] and 'left out' in library.remarks[0]
    (remark,) = encode_texts(['library/large.txt'], reading=Reading(errors='replace')).remarks
    assert remark == 'library/large.txt: bad bytes were read as \ufffd, 1 times'


def test_memory_does_not_grow_with_the_file(folder):
    """Words of a hundred letters: an index for each takes no time and no room to speak of."""
    peaks = []
    for size in (2, 4):
        line = ' '.join(letter * 100 for letter in 'abcdefghij') + '\n'
        (folder / f'{size}.txt').write_text(line * (size * LARGE // len(line)))
        tracemalloc.start()
        encode_texts([f'{size}.txt'])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] and peaks[1] < 4 * LARGE * 0.75  # the file itself is larger


def test_a_text_that_is_read_at_once(folder):
    """text.read gives all of it, as --valid and --test need it."""
    (folder / 'large.txt').write_bytes(JAPANESE.encode() * (LARGE // len(JAPANESE.encode()) + 1))
    text = read('large.txt')
    assert text == JAPANESE * (len(text) // len(JAPANESE)) and len(text.encode()) > LARGE
    assert decode(b'a\r\nb', 'a.txt') == 'a\nb'
