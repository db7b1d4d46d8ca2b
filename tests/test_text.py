"""support/text.py: bytes to text to words to ids, and back."""

import re

import numpy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.source import CorpusError
from support.text import EOS, choose_tokenizer, detokenize, detokenize_stream, encode
from support.text import make_vocabulary, near_words, read, tokenize, tokenize_line
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


def test_a_byte_that_fits_no_encoding_is_named(tmp_path):
    (tmp_path / 'a.txt').write_bytes('ホームズ'.encode() + b'\xff\xfd')
    with pytest.raises(CorpusError, match=r'a\.txt: byte 0xff at offset 12 '):
        read(tmp_path / 'a.txt')


@pytest.mark.parametrize(
    'text, encoding, offset',
    [
        ('Der Mann grüßte höflich. Für die Tür genügt ein Schlüssel.\n', 'latin-1', 11),
        ('日本語文書\n', 'euc-jp', 9),
    ],
)
def test_other_encodings_do_not_pass_for_shift_jis(tmp_path, text, encoding, offset):
    (tmp_path / 'a.txt').write_bytes(text.encode(encoding))
    with pytest.raises(CorpusError, match=f'at offset {offset} .*--encoding'):
        read(tmp_path / 'a.txt')
    assert read(tmp_path / 'a.txt', encoding) == text


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
