"""support/text.py: bytes to text to words to ids, and back."""

import re
import unicodedata

import numpy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.source import DATA, CorpusError
from support.text import EOS, choose_tokenizer, compose, decode, detokenize, detokenize_stream
from support.text import encode, explained_tokenizer, make_vocabulary, near_words, read, tokenize
from support.text import tokenize_line
from test_aozora import in_layout


# Bytes to text


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'cp932', 'utf-16'])
def test_encodings_are_recognised(tmp_path, encoding):
    (tmp_path / 'a.txt').write_bytes('表示、ホームズ～①\n'.encode(encoding))
    assert read(tmp_path / 'a.txt') == '表示、ホームズ～①\n'


def test_utf_16_without_a_japanese_letter(tmp_path):
    (tmp_path / 'a.txt').write_bytes('Holmes – 3 miles\r\n'.encode('utf-16'))
    assert read(tmp_path / 'a.txt') == 'Holmes – 3 miles\n'


def test_shift_jis_2004_where_cp932_does_not_fit(tmp_path):
    (tmp_path / 'a.txt').write_bytes('挘る摑む𠮟る俱\n'.encode('shift_jis_2004'))
    assert read(tmp_path / 'a.txt') == '挘る摑む𠮟る俱\n'


SENTENCES = 'ホームズは言った。「ワトスン君、いくつある？」\nわたしは笑った。\n'


@pytest.mark.parametrize(
    'encoding, extra',
    [
        ('euc_jp', 'ﾎｰﾑｽﾞ'),
        ('euc_jis_2004', '①か゚𠮟〜丂'),
        ('cp932', 'ﾎｰﾑｽﾞ①髙﨑'),
        ('shift_jis_2004', '𠮟丂'),
        ('iso2022_jp', ''),
        ('iso2022_jp_ext', 'ﾎｰﾑｽﾞ'),
        ('iso2022_jp_2004', '①𠮟丂'),
        ('utf-32', '𠮟'),
    ],
)
def test_japanese_encodings_are_told_apart(encoding, extra):
    text = SENTENCES + extra + '\n'
    assert decode(text.encode(encoding), 'a.txt') == text


def test_nec_characters_in_a_mail():
    """①, row 13 of NEC's set, in ISO-2022-JP as Microsoft's programs write it."""
    data = SENTENCES.encode('iso2022_jp') + b'\x1b$B-!\x1b(B\n'
    assert decode(data, 'a.txt') == SENTENCES + '①\n'


ALL = ['utf-8', 'utf-8-sig', 'utf-16', 'cp932', 'shift_jis_2004', 'euc_jp', 'euc_jis_2004']
ALL += ['iso2022_jp', 'iso2022_jp_2004']


@pytest.mark.parametrize('encoding', ALL)
def test_real_texts_in_every_encoding(aozora, encoding):
    for path in [*sorted(aozora.glob('*.txt')), DATA / 'holmes.txt']:
        text = decode(path.read_bytes(), path)
        assert len(re.findall('[ぁ-ん]', text)) * 4 > len(text)
        data = text.encode(encoding, 'ignore')
        assert decode(data, path) == data.decode(encoding).removeprefix('\ufeff')


@pytest.mark.parametrize(
    'text, encoding',
    [
        ('福尔摩斯说，华生，你看见什么了？\n' * 9, 'gb2312'),
        ('福爾摩斯說，華生，你看見什麼了？\n' * 9, 'big5'),
        ('셜록 홈즈는 아무 말도 하지 않았다.\n' * 9, 'euc_kr'),
        ('Холмс ничего не сказал, но улыбнулся.\n' * 9, 'koi8_r'),
        ('Холмс ничего не сказал, но улыбнулся.\n' * 9, 'cp1251'),
        ('Der Mann grüßte höflich. Für die Tür genügt ein Schlüssel.\n', 'latin-1'),
        ('‚Ähnlich‘ sei das, sagte er. Für die Tür genügt ein Schlüssel.\n', 'cp1252'),
        ('日本語文書\n', 'euc_jp'),
    ],
)
def test_other_encodings_pass_for_none(text, encoding):
    message = r'a\.txt: byte 0x.. at offset \d+ is not utf-8, Shift_JIS or EUC-JP .*--encoding'
    with pytest.raises(CorpusError, match=message):
        decode(text.encode(encoding), 'a.txt')
    assert decode(text.encode(encoding), 'a.txt', encoding) == text


def test_encoding_given(tmp_path):
    (tmp_path / 'a.txt').write_bytes('どうも'.encode('euc-jp'))
    assert read(tmp_path / 'a.txt', 'euc-jp') == 'どうも\n'
    with pytest.raises(CorpusError, match='byte 0xa4 at offset 0 is not ascii'):
        read(tmp_path / 'a.txt', 'ascii')
    with pytest.raises(CorpusError, match='klingon: not a text encoding'):
        read(tmp_path / 'a.txt', 'klingon')
    (tmp_path / 'a.txt').write_bytes(b'+2AA-')  # half a character in UTF-7
    with pytest.raises(CorpusError, match='not utf-7'):
        read(tmp_path / 'a.txt', 'utf-7')


# Broken bytes


LETTERS = ['utf-8', 'cp932', 'euc_jp']


@pytest.mark.parametrize('encoding', LETTERS)
@pytest.mark.parametrize('byte', [b'\xff', b'\xfe', b'\xa0'])
def test_a_bad_byte_in_a_book(encoding, byte):
    """Byte A0 is no character of cp932 either; in EUC-JP and UTF-8 it is none alone."""
    before, after = (SENTENCES * 20).encode(encoding), (SENTENCES * 5).encode(encoding)
    data = before + byte + b'\n' + after
    place = rf'book.txt: byte 0x{byte.hex()} at offset {len(before)} is not .*\(line 41\)'
    with pytest.raises(CorpusError, match=place + '.*--errors replace'):
        decode(data, 'book.txt')
    assert decode(data, 'book.txt', errors='replace') == SENTENCES * 20 + '\ufffd\n' + SENTENCES * 5


@pytest.mark.parametrize('encoding', LETTERS)
def test_a_file_that_is_cut_inside_a_character(encoding):
    whole = SENTENCES * 20 + 'ワトスン'
    for missing in range(1, len('ン'.encode(encoding))):
        data = whole.encode(encoding)[:-missing]
        place = r'ends inside a character, byte 0x.. at offset \d+ \(line 41\); --errors replace'
        with pytest.raises(CorpusError, match=place):
            decode(data, 'book.txt')
        assert decode(data, 'book.txt', errors='replace') == whole[:-1] + '\ufffd'


def test_utf_8_that_is_cut_is_not_read_as_shift_jis():
    """The first four bytes of ああ are 縺ゅ in Shift_JIS."""
    assert 'ああ'.encode()[:4].decode('cp932') == '縺ゅ'
    with pytest.raises(CorpusError, match='--errors replace'):
        decode('ああ'.encode()[:4], 'a.txt')
    assert decode('ああ'.encode()[:4], 'a.txt', errors='replace') == 'あ\ufffd'


@pytest.mark.parametrize(
    'text',
    [
        '셜록 홈즈는 아무 말도 하지 않았다.\n',
        '福尔摩斯说：“华生，你看见什么了？”\n',
        'โฮล์มส์ไม่พูดอะไรเลย\n',
        'Холмс ничего не сказал, но улыбнулся.\n',
        'Holmes said “nothing” – and smiled.\n',
    ],
)
def test_a_bad_byte_in_other_languages(text):
    """They stay UTF-8."""
    data = text.encode() * 20 + b'\xff' + text.encode() * 20
    assert decode(data, 'a.txt', errors='replace') == text * 20 + '\ufffd' + text * 20
    with pytest.raises(
        CorpusError, match=rf'offset {len(text.encode()) * 20} is not utf-8 .*line 21'
    ):
        decode(data, 'a.txt')


def test_noise_is_no_text():
    random = numpy.random.RandomState(0)
    for _ in range(50):
        with pytest.raises(CorpusError, match='--encoding'):
            decode(random.randint(1, 256, 400).astype('u1').tobytes(), 'a.txt')


def test_bad_bytes_of_a_given_encoding():
    assert decode(b'a\xffb', 'a.txt', 'ascii', 'replace') == 'a\ufffdb'
    with pytest.raises(CorpusError, match='offset 1 is not utf-8'):
        decode(b'a\xffb', 'a.txt', 'utf-8')


def test_a_byte_that_fits_no_encoding_is_named(tmp_path):
    (tmp_path / 'a.txt').write_bytes('ホームズ'.encode() + b'\xff\xfd')
    with pytest.raises(CorpusError, match=r'a\.txt: byte 0xff at offset 12 '):
        read(tmp_path / 'a.txt')


@pytest.mark.parametrize('encoding', [None, 'utf-8', 'utf-8-sig'])
def test_byte_order_marks_are_no_words(encoding):
    """Also where two files were joined, and for who names the encoding."""
    data = b''.join('ホームズ\n'.encode('utf-8-sig') for _ in range(3))
    assert decode(data, 'a.txt', encoding) == 'ホームズ\n' * 3
    data = b''.join('ホームズ\n'.encode('utf-16') for _ in range(2))
    assert decode(data, 'a.txt') == 'ホームズ\n' * 2


def test_characters_are_composed():
    """As macOS decomposes them; what NFC would take from Japanese names stays."""
    for text in ('ガラスのパイプ', 'Für Élise', '셜록 홈즈는'):
        assert decode(unicodedata.normalize('NFD', text).encode(), 'a.txt') == text
    name = '\ufa19\ufa11さん'  # compatibility ideographs
    assert decode((name + 'か\u3099').encode(), 'a.txt') == name + 'が'
    assert compose('ﾎｰﾑｽﾞ') == 'ﾎｰﾑｽﾞ'


def test_line_ends(tmp_path):
    (tmp_path / 'a.txt').write_bytes(b'one\r\ntwo\rthree\nfour')
    assert read(tmp_path / 'a.txt') == 'one\ntwo\nthree\nfour\n'


@pytest.mark.parametrize(
    'data, message',
    [
        (b'', 'there is no text'),
        (b' \n\r\n', 'there is no text'),
        (b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR', 'binary file.*offset 8'),
        (b'PK\x03\x04 and no more', 'damaged zip'),
    ],
)
def test_no_text(tmp_path, data, message):
    (tmp_path / 'a').write_bytes(data)
    with pytest.raises(CorpusError, match=message):
        read(tmp_path / 'a')


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.binary(),
        st.text().map(str.encode),
        st.text("ホ｜《》［］＃※〔〕-a'一底本：\n\r 　").map(lambda body: in_layout(body).encode()),
    )
)
@example('［＃「［＃「※［＃「」'.encode())
def test_any_bytes_give_text_or_a_corpus_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / 'any'
    path.write_bytes(data)
    try:
        text = read(path)
    except CorpusError as error:
        assert str(error).count('\n') == 0
    else:
        tokenizer = choose_tokenizer(text)
        words = tokenize(text, tokenizer)
        assert all(words) and words.count(EOS) >= text.count('\n')


# Words


def test_which_tokenizer():
    assert choose_tokenizer('ホームズは言った。\n') == 'mecab'
    assert (
        choose_tokenizer('ホームズは A Study in Scarlet と言って、それから部屋を出た。\n')
        == 'mecab'
    )
    assert choose_tokenizer('ホームズ は 言っ た 。\n') == 'space'
    assert choose_tokenizer('Holmes said nothing.\n') == 'space'
    assert choose_tokenizer('ホームズは言った。\n', 'char') == 'char'


@pytest.mark.parametrize(
    'text',
    [
        '福尔摩斯说：“华生，你看见什么了？”\n' * 5,  # Chinese
        'โฮล์มส์ไม่พูดอะไรเลย เขาเพียงยิ้มให้วัตสัน\n' * 5,  # Thai
        'ໂຮມສ໌ບໍ່ໄດ້ເວົ້າຫຍັງເລີຍ\n' * 5,  # Lao
        'ហូមមិនបាននិយាយអ្វីទេ\n' * 5,  # Khmer
        'ဟုမ်းက ဘာမှမပြောဘူး\n' * 5,  # Burmese
    ],
)
def test_languages_without_spaces_get_a_hint(text):
    tokenizer, why = explained_tokenizer(text)
    assert tokenizer == 'space' and '--level char' in why
    assert explained_tokenizer(text, 'char')[0] == 'char'
    assert explained_tokenizer(text, 'word', 'mecab')[0] == 'mecab'


@pytest.mark.parametrize(
    'text, tokenizer',
    [
        ('福尔摩斯 说 ， 华生 ， 你 看见 什么 了 ？\n' * 5, 'space'),  # cut already
        ('셜록 홈즈는 아무 말도 하지 않았다.\n' * 5, 'space'),
        ('Холмс ничего не сказал.\n' * 5, 'space'),
        ('吾輩ハ猫デアル。名前ハマダ無イ。\n' * 5, 'mecab'),
        ('故郷を離れて幾山河、旅愁転た切なり。\n' * 5, 'mecab'),
        ('ホームズは福尔摩斯と書く。\n' * 5, 'mecab'),
    ],
)
def test_languages_that_need_no_hint(text, tokenizer):
    found, why = explained_tokenizer(text)
    assert found == tokenizer and '--level char' not in why


@pytest.mark.parametrize(
    'text, tokenizer, words',
    [
        ('　ホームズは言った。\n', 'mecab', ['　', 'ホームズ', 'は', '言っ', 'た', '。', '<eos>']),
        ('ホーム\nズは', 'mecab', ['ホーム', '<eos>', 'ズ', 'は', '<eos>']),
        (
            ' 「Study in  Scarlet」 を ',
            'mecab',
            ['「', 'Study', ' ', 'in', ' ', 'Scarlet', '」', 'を', '<eos>'],
        ),
        ('It is 3 miles.', 'mecab', ['It', ' ', 'is', ' ', '3', ' ', 'miles', '.', '<eos>']),
        ('　ホームズ は\t言っ た\n', 'space', ['　ホームズ', 'は', '言っ', 'た', '<eos>']),
        (
            " <unk> n't said  N\n\nMr. Holmes\n",
            'space',
            ['<unk>', "n't", 'said', 'N', '<eos>', '<eos>', 'Mr.', 'Holmes', '<eos>'],
        ),
        ('あ b\n\n', 'char', ['あ', ' ', 'b', '<eos>', '<eos>']),
    ],
)
def test_tokenize(text, tokenizer, words):
    assert tokenize(text, tokenizer) == words


def test_a_very_long_line():
    line = 'ホームズは部屋を出た。' * 20000
    words = tokenize(line, 'mecab')
    assert detokenize(words, 'mecab') == line + '\n'


def test_real_texts_are_put_together_again(aozora):
    for path in sorted(aozora.glob('*.txt')):
        text = read(path)
        assert choose_tokenizer(text) == 'mecab'
        # a space beside a Japanese letter is lost, no other
        assert detokenize(tokenize(text, 'mecab'), 'mecab') == re.sub(
            '(?<=[^\0-\u02ff…―]) +| +(?=[^\0-\u02ff…―])', '', text
        )


@pytest.mark.parametrize(
    'words, tokenizer, natural, wakati',
    [
        (
            ['ホームズ', 'は', '<eos>', '「', 'Study', ' ', 'in', ' ', 'Scarlet', '」', 'を'],
            'mecab',
            'ホームズは\n「Study in Scarlet」を',
            'ホームズ は\n「 Study in Scarlet 」 を',
        ),
        (
            ['셜록', '홈즈는', '말했다', '.'],
            'space',
            '셜록 홈즈는 말했다 .',
            '셜록 홈즈는 말했다 .',
        ),
        (
            ['ホームズ', 'は', 'Holmes', 'だ'],
            'space',
            'ホームズはHolmesだ',
            'ホームズ は Holmes だ',
        ),
        (
            ['Mr.', 'Holmes', 'said', '<eos>', '“no”'],
            'space',
            'Mr. Holmes said\n“no”',
            'Mr. Holmes said\n“no”',
        ),
        (['a', ' ', 'あ', '<eos>', 'b'], 'char', 'a あ\nb', 'a あ\nb'),
    ],
)
def test_detokenize(words, tokenizer, natural, wakati):
    assert detokenize(words, tokenizer) == natural
    assert detokenize(words, tokenizer, wakati=True) == wakati


def test_text_comes_as_soon_as_its_word():
    given = []

    def words():
        for word in ['Mr.', 'Holmes', '<eos>', '「']:
            given.append(word)
            yield word

    texts = detokenize_stream(words(), 'space')
    assert next(texts) == 'Mr.' and given == ['Mr.']
    assert list(texts) == [' Holmes', '\n', '「']


@given(st.text(st.characters(exclude_categories=('Cs', 'Cc'))))
def test_characters_come_back(line):
    assert detokenize(tokenize(line + '\n', 'char'), 'char') == line + '\n'


@given(
    st.text('あいう亜漢字ー、。「」『』……――Ａ１！　ホームズは', max_size=40),
    st.lists(st.text("ABcd.,'12-!", min_size=1), max_size=6),
)
def test_japanese_comes_back_with_its_latin_words(line, latin):
    line += ' '.join(latin)
    assert detokenize(tokenize_line(line, 'mecab'), 'mecab') == line


@given(st.lists(st.text("abc.,'“”é", min_size=1), min_size=1))
def test_spaced_text_comes_back(words):
    line = ' '.join(words)
    assert detokenize(tokenize_line(line, 'space'), 'space') == line


# Ids


def test_vocabulary_and_ids():
    words = 'b a b <eos> c a b <eos>'.split()
    assert make_vocabulary(words) == ['b', 'a', '<eos>', 'c']
    ids = encode(words, make_vocabulary(words))
    assert ids.dtype == 'i' and ids.tolist() == [0, 1, 0, 2, 3, 1, 0, 2]

    few = make_vocabulary(words, min_count=3)
    assert few == ['b', '<eos>', '<unk>']
    assert encode(words, few).tolist() == [0, 2, 0, 1, 2, 2, 0, 1]
    with pytest.raises(KeyError):
        encode(['z'], make_vocabulary(words))


def test_unk_of_a_tokenised_corpus_is_a_word():
    words = 'the <unk> of <unk> <eos>'.split()
    assert make_vocabulary(words) == ['the', '<unk>', 'of', '<eos>']
    numpy.testing.assert_array_equal(encode(['unseen'], make_vocabulary(words, 2)), [0])


def test_the_most_frequent_words():
    words = 'a b b c c c <eos> a d'.split()
    assert make_vocabulary(words, vocab_size=3) == [
        'a',
        'b',
        'c',
        '<eos>',
        '<unk>',
    ]  # a came before d
    assert make_vocabulary(words, vocab_size=9) == ['a', 'b', 'c', '<eos>', 'd']
    assert make_vocabulary(words, min_count=3, vocab_size=2) == ['c', '<eos>', '<unk>']


def test_counts_are_as_good_as_words():
    words = 'b a b <eos> c a b <eos>'.split()
    counts = {'b': 3, 'a': 2, '<eos>': 2, 'c': 1}
    for options in ({}, {'min_count': 2}, {'vocab_size': 1}):
        assert make_vocabulary(counts, **options) == make_vocabulary(words, **options)


def test_near_words():
    vocabulary = ['ホームズ', 'ワトスン', 'ワトソン', '犬', '<eos>', 'ワトスンくん']
    assert set(near_words('ワトスソ', vocabulary)[:2]) == {'ワトスン', 'ワトソン'}
    assert near_words('くん', vocabulary) == ['ワトスンくん']
    assert near_words('xyz', vocabulary) == []


def test_near_words_in_other_widths():
    """Compared in normal form KC, and given as the vocabulary has them."""
    vocabulary = ['ホームズ', '犬', 'Ｈｏｌｍｅｓ', 'ﾜﾄｽﾝ']
    assert near_words('ﾎｰﾑｽﾞ', vocabulary) == ['ホームズ']
    assert near_words('Holmes', vocabulary) == ['Ｈｏｌｍｅｓ']
    assert near_words('ワトスン', vocabulary) == ['ﾜﾄｽﾝ']
