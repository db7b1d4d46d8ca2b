"""corpus.py: bytes to text to words to ids, and back."""

import contextlib
import http.server
import io
import json
import pathlib
import re
import threading
import tracemalloc
import zipfile
import zlib

import numpy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support import text as corpus
from support.text import CorpusError

DASHES = '-' * 55
AOZORA = f"""坊っちゃん
夏目漱石

{DASHES}
【テキスト中に現れる記号について】

《》：ルビ
（例）親譲《おやゆず》り
{DASHES}

［＃５字下げ］一［＃「一」は中見出し］

　親譲《おやゆず》りの古い｜無鉄砲《むてっぽう》で損をした。
［＃改ページ］
　本文［＃「本文」に傍点］の終わり。



底本：「ある本」ある社
青空文庫作成ファイル：
"""


def aozora(body):
    """A text in Aozora Bunko's layout with this body."""
    return (
        AOZORA[: AOZORA.index('［＃５字下げ］')]
        + body
        + '\n'
        + AOZORA[AOZORA.index('\n\n\n底本') :]
    )


# Bytes to text


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'cp932', 'utf-16'])
def test_encodings_are_recognised(tmp_path, encoding):
    (tmp_path / 'a.txt').write_bytes('表示、ホームズ～①\n'.encode(encoding))
    assert corpus.read(tmp_path / 'a.txt') == '表示、ホームズ～①\n'


def test_shift_jis_2004_where_cp932_does_not_fit(tmp_path):
    (tmp_path / 'a.txt').write_bytes('挘る摑む𠮟る俱\n'.encode('shift_jis_2004'))
    assert corpus.read(tmp_path / 'a.txt') == '挘る摑む𠮟る俱\n'


def test_encoding_given(tmp_path):
    (tmp_path / 'a.txt').write_bytes('どうも'.encode('euc-jp'))
    assert corpus.read(tmp_path / 'a.txt', 'euc-jp') == 'どうも\n'
    with pytest.raises(CorpusError, match='byte 0xa4 at offset 0 is not ascii'):
        corpus.read(tmp_path / 'a.txt', 'ascii')
    with pytest.raises(CorpusError, match='klingon: not a text encoding'):
        corpus.read(tmp_path / 'a.txt', 'klingon')
    (tmp_path / 'a.txt').write_bytes(b'+2AA-')  # half a character in UTF-7
    with pytest.raises(CorpusError, match='not utf-7'):
        corpus.read(tmp_path / 'a.txt', 'utf-7')


def test_a_byte_that_fits_no_encoding_is_named(tmp_path):
    (tmp_path / 'a.txt').write_bytes('ホームズ'.encode() + b'\xff\xfd')
    with pytest.raises(CorpusError, match=r'a\.txt: byte 0xff at offset 12 '):
        corpus.read(tmp_path / 'a.txt')


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
        corpus.read(tmp_path / 'a.txt')
    assert corpus.read(tmp_path / 'a.txt', encoding) == text


def test_line_ends(tmp_path):
    (tmp_path / 'a.txt').write_bytes(b'one\r\ntwo\rthree\nfour')
    assert corpus.read(tmp_path / 'a.txt') == 'one\ntwo\nthree\nfour\n'


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
        corpus.read(tmp_path / 'a')


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.binary(),
        st.text().map(str.encode),
        st.text("ホ｜《》［］＃※〔〕-a'一底本：\n\r 　").map(lambda body: aozora(body).encode()),
    )
)
@example('［＃「［＃「※［＃「」'.encode())
def test_any_bytes_give_text_or_a_corpus_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / 'any'
    path.write_bytes(data)
    try:
        text = corpus.read(path)
    except CorpusError as error:
        assert str(error).count('\n') == 0
    else:
        cut = corpus.choose_cut(text)
        words = corpus.split_text(text, cut)
        assert all(words) and words.count(corpus.EOS) >= text.count('\n')


# Where it comes from


def test_bare_names_are_looked_up_in_data(folder):
    assert pathlib.Path(corpus.find('holmes.txt')) == corpus.DATA / 'holmes.txt'
    (folder / 'holmes.txt').write_text('mine')
    assert corpus.read('holmes.txt') == 'mine\n'
    with pytest.raises(CorpusError, match='empty'):
        corpus.find('')
    for name in ('nothing.txt', './holmes2.txt', 'data/../holmes2.txt'):
        with pytest.raises(CorpusError, match='no such file or folder'):
            corpus.find(name)


def test_folder_in_the_order_of_names(folder):
    (folder / 'deep').mkdir()
    for name in ('b.txt', 'a.txt', 'deep/c.txt', 'no.md'):
        (folder / name).write_text(name)
    (folder / '._a.txt').write_bytes(b'\0')
    (folder / 'folder.txt').mkdir()
    assert corpus.read(folder) == 'a.txt\nb.txt\ndeep/c.txt\n'
    with pytest.raises(CorpusError, match='no .txt file'):
        (folder / 'empty').mkdir()
        corpus.read(folder / 'empty')


def zipped(**members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace('__', '.'), text)
    return data.getvalue()


def test_zip(folder):
    (folder / 'a.zip').write_bytes(
        zipped(b__txt='ふた\n'.encode('cp932'), a__TXT='一', fig__png=b'\0')
    )
    assert corpus.read('a.zip') == '一\nふた\n'
    (folder / 'b.zip').write_bytes(zipped(fig__png=b'\0'))
    with pytest.raises(CorpusError, match='no .txt file'):
        corpus.read('b.zip')


def test_zip_bombs_are_refused(folder, monkeypatch):
    monkeypatch.setattr(corpus, 'MAX_UNPACKED', 1000)
    (folder / 'a.zip').write_bytes(zipped(a__txt='a' * 600, b__txt='b' * 600))
    with pytest.raises(CorpusError, match='unpacked'):
        corpus.read('a.zip')
    data = bytearray(zipped(a__txt='a' * 5000))
    entry = data.index(b'PK\x01\x02')
    data[entry + 24 : entry + 28] = (600).to_bytes(4, 'little')  # a size that lies
    (folder / 'b.zip').write_bytes(data)
    with pytest.raises(CorpusError, match='damaged zip'):
        corpus.read('b.zip')


def test_a_zip_that_lies_of_its_size_takes_no_memory(folder):
    """300 MB of zeros in 300 kB, declared as 600 bytes."""
    data = bytearray(zipped(a__txt='a' * 600, b__txt=bytes(300_000_000)))
    for name in (b'a.txt', b'b.txt'):
        entry = data.rindex(name) - 46
        data[entry + 24 : entry + 28] = (600).to_bytes(4, 'little')
    (folder / 'a.zip').write_bytes(data)
    tracemalloc.start()
    with pytest.raises(CorpusError, match='damaged zip'):
        corpus.read('a.zip')
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize(
    'name',
    [
        '../a.txt',
        '/a.txt',
        'x/../../a.txt',
        'C:/a.txt',
        '..\\a.txt',
        '\\\\host\\a.txt',
        'x/..',
        '../picture.png',
    ],
)
def test_zips_with_names_that_lead_out_are_refused(folder, name):
    (folder / 'a.zip').write_bytes(zipped(**{'b.txt': 'b', name: 'a'}))
    with pytest.raises(CorpusError, match='leads out'):
        corpus.read('a.zip')


def test_names_with_dots_are_no_trick(folder):
    (folder / 'a.zip').write_bytes(zipped(**{'x..y/..a.txt': 'a', 'b...txt': 'b'}))
    assert corpus.read('a.zip') == 'b\na\n'


@pytest.mark.parametrize('method', [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_whose_unpacking_has_no_bound_are_refused(folder, method):
    with zipfile.ZipFile('a.zip', 'w', method) as archive:
        archive.writestr('a.txt', 'a' * 600)
    with pytest.raises(CorpusError, match='unusual'):
        corpus.read('a.zip')


def test_devices_are_refused():
    with pytest.raises(CorpusError, match='device'):
        corpus.read('/dev/zero')


@pytest.fixture
def server():
    """http://127.0.0.1:port that serves a zip, a text, a page and redirects."""
    answers = {
        '/a.zip': ('application/zip', zipped(a__txt='ホームズ'.encode('cp932'))),
        '/a.txt': ('text/plain', b'Holmes'),
        '/card.html': ('text/html', b'<html>'),
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith('/to?'):
                self.send_response(302)
                self.send_header('Location', self.path[4:])
                self.end_headers()
            elif self.path == '/short':
                self.send_response(200)
                self.send_header('Content-Length', '100')
                self.end_headers()
                self.wfile.write(b'ten bytes.')
            elif self.path == '/flood':
                self.send_response(302)
                self.send_header('Location', '/a.txt')
                self.end_headers()
                with contextlib.suppress(OSError):
                    while not stopped.is_set():
                        self.wfile.write(bytes(65536))
            elif self.path == '/round':
                self.send_response(302)
                self.send_header('Location', '/round')
                self.end_headers()
            elif self.path == '/drip':  # a header without an end
                self.send_response(200)
                self.flush_headers()
                with contextlib.suppress(OSError):
                    while not stopped.wait(0.01):
                        self.wfile.write(b'x')
            elif self.path in answers:
                self.send_response(200)
                self.send_header('Content-Type', answers[self.path][0])
                self.end_headers()
                self.wfile.write(answers[self.path][1])
            else:
                self.send_error(404)

        def log_message(self, *args):
            pass

    stopped = threading.Event()
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{httpd.server_address[1]}'
        stopped.set()
        httpd.shutdown()


def test_address(server, monkeypatch):
    assert corpus.read(f'{server}/a.zip') == 'ホームズ\n'
    assert corpus.read(f'{server}/to?/a.txt') == 'Holmes\n'
    assert corpus.name_of(f'{server}/files/55881_ruby_50043.zip?x=y') == '55881_ruby_50043'
    for path, message in (
        ('/card.html', 'web page'),
        ('/none', '404'),
        ('/to?ftp://127.0.0.1/a.txt', 'only http'),
        ('/to?file:///etc/hostname', 'not allowed'),
    ):
        with pytest.raises(CorpusError, match=message):
            corpus.read(server + path)
    monkeypatch.setattr(corpus, 'MAX_DOWNLOAD', 5)
    with pytest.raises(CorpusError, match='more than'):
        corpus.read(f'{server}/a.txt')


def test_an_answer_without_end(server, monkeypatch):
    monkeypatch.setattr(corpus, 'MAX_SECONDS', 0.2)
    with pytest.raises(CorpusError, match='not all there after 0.2 seconds'):
        corpus.read(f'{server}/drip')


def test_what_comes_with_a_redirect_is_not_read(server):
    """It has no end here; before, all of it was read."""
    assert corpus.read(f'{server}/flood') == 'Holmes\n'


def test_an_answer_that_ends_too_early(server):
    with pytest.raises(CorpusError, match='ends 90 bytes before'):
        corpus.read(f'{server}/short')


def test_nested_notes_take_no_long_time():
    corpus.clean_aozora(aozora('［＃' * 50000 + '］' * 50000))
    corpus.is_aozora(f'{DASHES}\n' + '●' * 200000 + f'\n{DASHES}\n')


def test_redirects_that_go_round(server):
    with pytest.raises(CorpusError, match='redirect|infinite loop'):
        corpus.read(f'{server}/round')


@pytest.mark.parametrize(
    'address',
    [
        'ftp://127.0.0.1/a',
        'file:///etc/hostname',
        'http://',
        'http://[',
        'http://127.0.0.1:1/',
        'http://a b/',
    ],
)
def test_bad_addresses(address):
    with pytest.raises(CorpusError):
        corpus.read(address)


# Aozora Bunko


def test_aozora_layout_is_removed():
    assert corpus.clean_aozora(AOZORA) == '　親譲りの古い無鉄砲で損をした。\n　本文の終わり。\n'


@pytest.mark.parametrize(
    'body, expected',
    [
        ('※［＃「てへん＋劣」、第3水準1-84-77］《むし》る', '挘る'),
        ('※［＃「しんにょう」、第4水準2-89-93］', b'\x8f\xf9\xfd'.decode('euc_jis_2004')),
        ('※［＃丸１、1-13-1］※［＃感嘆符二つ、1-8-75］', '①‼'),
        ('※［＃「土へん＋竒」、U+57FC、16-下-9］', '埼'),
        ('※［＃「りっしんべん＋巧」、126-1］', '〓'),
        ('※［＃「口＋愛」、第3水準1-99-99］', '〓'),
        ('※［＃始め二重山括弧、1-1-52］強調※［＃終わり二重山括弧、1-1-53］', '《強調》'),
        ('記［＃「※［＃「口＋愛」、第3水準1-15-23］」は底本では「口」］す', '記す'),
        (
            "〔cafe'〕と〔A` la maison, c,a va, Go:del, ae&, s&, Ångstro:m〕",
            'caféとÀ la maison, ça va, Gödel, æ, ß, Ångström',
        ),
        (
            "〔L'homme, c'est l'amour, don't, pas, Poznan'〕",
            "L'homme, c'est l'amour, don't, pas, Poznań",
        ),
        ('〔譯〕游惰《いうだ》を認めて', '〔譯〕游惰を認めて'),
        ('［＃ここから大見出し］\n上\n先生と私\n［＃ここで大見出し終わり］\n私は', '私は'),
        ('［＃大見出し］第一部［＃大見出し終わり］\n私は', '私は'),
        ('題［＃「題」は同行小見出し］　本文は残る', '　本文は残る'),
        (
            '　　　　　　　一\n\n　第二章　氷原\n\n第三章\n\n　私は三人を見た。',
            '　私は三人を見た。',
        ),
        ('勿［＃下］認［＃二］游惰［＃一］', '勿認游惰'),
        ('いろ／＼ふん／″＼', 'いろ〳〵ふん〴〵'),
        ('インドラ［※１］の網', 'インドラの網'),
        ('本文\n［＃本文終わり］\n翻訳の底本：Arthur Conan Doyle', '本文'),
        (f'前の段落。\n{DASHES}\n後ろの段落。', f'前の段落。\n{DASHES}\n後ろの段落。'),
        ('前の段落。\n三回\n後ろの段落。', '前の段落。\n三回\n後ろの段落。'),
        ('第一章［＃「第一章」は中見出し］　同じ行の本文。', '　同じ行の本文。'),
        ('［＃２字下げ］上《じょう》［＃「上」は大見出し］\n本文', '本文'),
        ("〔Franc, Ve'ra; Note: Noe:l; fac,ade〕", 'Franc, Véra; Note: Noël; façade'),
    ],
)
def test_aozora_notation(body, expected):
    text = aozora(body)
    assert corpus.is_aozora(text)
    assert corpus.clean_aozora(text) == expected + '\n'


def test_layout_of_the_nineties():
    text = (
        f'題［※１］\n作者\n\n［表記について］\n●ルビは《ルビ》\n{DASHES}\n　本文《ほんぶん》\n'
        f'{DASHES}\n※１　題＝名前\n{DASHES}\n底本：「本」\n青空文庫作成ファイル：'
    )
    assert corpus.clean_aozora(text) == '　本文\n'


def test_several_works_in_one_file():
    text = AOZORA + aozora('　二つ目の本文。') + AOZORA.replace('損をした', '得をした')
    assert corpus.clean_aozora(text) == (
        corpus.clean_aozora(AOZORA)
        + '　二つ目の本文。\n'
        + corpus.clean_aozora(AOZORA).replace('損をした', '得をした')
    )


def test_header_in_other_words():
    text = f'題\n作者\n{DASHES}\n●ルビは《》で示した\n{DASHES}\n　本文《ほんぶん》\n底本：「本」\n'
    assert corpus.clean_aozora(text) == '　本文\n'


def test_a_long_line_takes_no_long_time():
    """Linear: a quadratic search would need minutes for this."""
    body = '長い' * 200000 + '［＃「長い」は中見出し］' + '［＃大見出し］' * 20000
    assert corpus.clean_aozora(aozora(body)).count('長') <= 200000


def test_footer_alone_is_enough():
    assert (
        corpus.clean_aozora('　本文《ほんぶん》\n\n底本：「本」\n青空文庫作成ファイル：')
        == '　本文\n'
    )


@pytest.mark.parametrize(
    'text',
    [
        '山《やま》と｜川《かわ》\n\n一\n\n底本：という言葉［＃「言葉」に傍点］\n',
        f'# Title\n{DASHES}\n《quoted》 text ［＃note］\n{DASHES}\nmore\n',
        'Tom《1》\n',
    ],
)
def test_other_texts_are_left_alone(tmp_path, text):
    (tmp_path / 'a.txt').write_text(text, encoding='utf-8')
    assert corpus.read(tmp_path / 'a.txt') == text


def test_our_own_story():
    text = corpus.read(corpus.DATA / 'holmes.txt')
    assert len(text) >= 15000
    assert text.startswith('　十一月十五日の、空の低い昼過ぎのことである。') and text.endswith(
        '　晴れ。\n'
    )
    assert not re.search('[《》｜＃※〔〕]|--|字下げ|見出し|底本', text)
    assert all(word in text for word in ('挘り', '摑んだ', 'café', 'Pléiade'))
    words = corpus.split_text(text, corpus.choose_cut(text))
    assert words.count('ホームズ') > 100


def test_real_texts(aozora):
    """Nothing of the layout is left in eleven works, nothing of the works is lost."""
    firsts = {
        '226_': '　シャーロック・ホームズにとって、彼女は',
        '2445': '誰も知つた信州姨捨山の話',
        '4292': '「ワトソン君、僕は行かなきゃ',
        '4305': '　死刑を宣告されて今マルセイユ',
        '4347': '　九月十一日、北緯八十一度',
        '4534': '　ホームズは全く黙りこんだまま',
        '460_': '　そのとき私は大へんひどく疲れて',
        '4828': '一　勿認游惰以爲寛裕。',
        '5588': '　一八七八年のこと、私はロンドン大学',
        '773_': '　私はその人を常に先生と',
        '8_ru': '　友人シャーロック・ホームズを',
    }
    lasts = {
        '226_': 'という敬称を使うのである。',
        '2445': '瀰漫した譚である。（南方熊楠）',
        '4292': '喜んでお答えいたします」',
        '4305': '断乎として迫った次第だ。』（完）',
        '4347': '死んでしまったというのであった。',
        '4534': 'きいただけである。',
        '460_': '私のかたちをぼんやり思い出しました。',
        '4828': '讀書是より大に進むと云ふ。',
        '5588': '倉の金をまんじりと見ゆ',
        '773_': '腹の中にしまっておいて下さい。」',
        '8_ru': '書き送っているように、ね。」',
    }
    characters = {
        '226_': 18818,
        '2445': 456,
        '4292': 24699,
        '4305': 14420,
        '4347': 26593,
        '4534': 26477,
        '460_': 3776,
        '4828': 16336,
        '5588': 95078,
        '773_': 161880,
        '8_ru': 23375,
    }
    for path in sorted(aozora.glob('*.txt')):
        text = corpus.read(path)
        assert text.startswith(firsts[path.name[:4]]) and text.endswith(lasts[path.name[:4]] + '\n')
        assert not re.search(
            '[《》｜＃※]|--|字下げ|は[大中小]見出し|^[一二三四五六七八九十]+$', text, re.M
        )
        assert len(text) == characters[path.name[:4]]  # as read against the originals
        assert corpus.choose_cut(text) == 'mecab'
        words = corpus.split_text(text, 'mecab')
        # a space beside a Japanese letter is lost, no other
        assert corpus.join(words, 'mecab') == re.sub(
            '(?<=[^\0-\u02ff…―]) +| +(?=[^\0-\u02ff…―])', '', text
        )


# Words


def test_cuts():
    assert corpus.choose_cut('ホームズは言った。\n') == 'mecab'
    assert (
        corpus.choose_cut('ホームズは A Study in Scarlet と言って、それから部屋を出た。\n')
        == 'mecab'
    )
    assert corpus.choose_cut('ホームズ は 言っ た 。\n') == 'space'
    assert corpus.choose_cut('Holmes said nothing.\n') == 'space'
    assert corpus.choose_cut('ホームズは言った。\n', 'char') == 'char'


@pytest.mark.parametrize(
    'text, cut, words',
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
def test_split_text(text, cut, words):
    assert corpus.split_text(text, cut) == words


def test_a_very_long_line():
    line = 'ホームズは部屋を出た。' * 20000
    words = corpus.split_text(line, 'mecab')
    assert corpus.join(words, 'mecab') == line + '\n'


@pytest.mark.parametrize(
    'words, cut, natural, wakati',
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
def test_join(words, cut, natural, wakati):
    assert corpus.join(words, cut) == natural
    assert corpus.join(words, cut, wakati=True) == wakati


@given(st.text(st.characters(exclude_categories=('Cs', 'Cc'))))
def test_characters_join_back(line):
    assert corpus.join(corpus.split_text(line + '\n', 'char'), 'char') == line + '\n'


@given(
    st.text('あいう亜漢字ー、。「」『』……――Ａ１！　ホームズは', max_size=40),
    st.lists(st.text("ABcd.,'12-!", min_size=1), max_size=6),
)
def test_japanese_joins_back_with_its_latin_words(line, latin):
    line += ' '.join(latin)
    assert corpus.join(corpus.split_line(line, 'mecab'), 'mecab') == line


@given(st.lists(st.text("abc.,'“”é", min_size=1), min_size=1))
def test_spaced_text_joins_back(words):
    line = ' '.join(words)
    assert corpus.join(corpus.split_line(line, 'space'), 'space') == line


# Ids


def test_vocabulary_and_ids():
    words = 'b a b <eos> c a b <eos>'.split()
    assert corpus.make_vocabulary(words) == ['b', 'a', '<eos>', 'c']
    ids = corpus.encode(words, corpus.make_vocabulary(words))
    assert ids.dtype == 'i' and ids.tolist() == [0, 1, 0, 2, 3, 1, 0, 2]

    few = corpus.make_vocabulary(words, min_count=3)
    assert few == ['b', '<eos>', '<unk>']
    assert corpus.encode(words, few).tolist() == [0, 2, 0, 1, 2, 2, 0, 1]
    with pytest.raises(KeyError):
        corpus.encode(['z'], corpus.make_vocabulary(words))


def test_unk_of_a_tokenised_corpus_is_a_word():
    words = 'the <unk> of <unk> <eos>'.split()
    assert corpus.make_vocabulary(words) == ['the', '<unk>', 'of', '<eos>']
    numpy.testing.assert_array_equal(
        corpus.encode(['unseen'], corpus.make_vocabulary(words, 2)), [0]
    )


def test_the_most_frequent_words():
    words = 'a b b c c c <eos> a d'.split()
    assert corpus.make_vocabulary(words, vocab_size=3) == [
        'a',
        'b',
        'c',
        '<eos>',
        '<unk>',
    ]  # a came before d
    assert corpus.make_vocabulary(words, vocab_size=9) == ['a', 'b', 'c', '<eos>', 'd']
    assert corpus.make_vocabulary(words, min_count=3, vocab_size=2) == ['c', '<eos>', '<unk>']


# A folder of any number of texts


@pytest.fixture
def library(folder):
    """A folder of texts, two of which cannot be read; what the others say in one."""
    texts = {
        'a.txt': 'ホームズは言った。\n「猫だ」\n',
        'b.TXT': '犬は猫を見た。',
        'deep/c.txt': '',
        'deep/d.txt': '猫は言った。\n' * 3,
    }
    (folder / 'library' / 'deep').mkdir(parents=True)
    for name, text in texts.items():
        (folder / 'library' / name).write_text(text, encoding='utf-8')
    (folder / 'library' / 'bad.txt').write_bytes(b'\xff\xfe\xfa')
    (folder / 'library' / 'binary.txt').write_bytes(b'a\0')
    (folder / 'library' / 'notes.md').write_text('not a text of it')
    return ''.join(text if text.endswith('\n') else text + '\n' for text in texts.values())


def expected(text, more, level, **options):
    words = corpus.split_text(text + more, corpus.choose_cut(text, level))
    vocabulary = corpus.make_vocabulary(words, **options)
    return corpus.encode(words, vocabulary), vocabulary


@pytest.mark.parametrize(
    'level, options',
    [
        ('word', {}),
        ('char', {}),
        ('word', {'min_count': 2}),
        ('word', {'vocab_size': 3}),
        ('char', {'min_count': 2, 'vocab_size': 4}),
    ],
)
def test_a_folder_is_what_its_texts_are(library, level, options):
    more = '新しい猫\n'
    ids, notes = corpus.encode_folder('library', more, 'store', level, **options)
    all_ids, vocabulary = expected(library, more, level, **options)
    assert isinstance(ids, numpy.memmap) and ids.tolist() == all_ids.tolist()
    assert notes['vocabulary'] == vocabulary and notes['sum'] == zlib.crc32(all_ids.tobytes())
    assert notes['more'] == {'word': 3, 'char': 5}[level]
    assert [text.split(':')[0] for text in notes['left_out']] == [
        'library/bad.txt',
        'library/binary.txt',
    ]


def test_a_folder_in_several_processes(library, monkeypatch):
    monkeypatch.setattr(corpus, 'ALONE', 0)
    ids, notes = corpus.encode_folder('library')
    all_ids, vocabulary = expected(library, '', 'word')
    assert (
        ids.tolist() == all_ids.tolist()
        and notes['vocabulary'] == vocabulary
        and len(notes['left_out']) == 2
    )


def test_a_folder_is_encoded_once(library, monkeypatch):
    def again(*args):
        raise AssertionError

    first, notes = corpus.encode_folder('library')
    with monkeypatch.context() as context:
        context.setattr(corpus, '_encode_texts', again)
        ids, same = corpus.encode_folder('library')
        assert same == notes and ids.tolist() == first.tolist()
        for options in (
            {'level': 'char'},
            {'more': 'x'},
            {'encoding': 'utf-8'},
            {'min_count': 2},
            {'vocab_size': 2},
        ):
            with pytest.raises(AssertionError):
                corpus.encode_folder('library', **options)
        pathlib.Path('library/e.txt').write_text('鳥。\n', encoding='utf-8')
        with pytest.raises(AssertionError):
            corpus.encode_folder('library')
    ids, _ = corpus.encode_folder('library')
    assert ids.tolist() == expected(library + '鳥。\n', '', 'word')[0].tolist()
    for file in pathlib.Path().glob('*.json'):
        notes = json.loads(file.read_text())
        for damaged in (
            {**notes, 'sum': notes['sum'] ^ 1},
            {**notes, 'vocabulary': 5},
            {**notes, 'more': None},
            [],
            {},
        ):
            file.write_text(json.dumps(damaged))
            assert corpus.encode_folder('library')[0].tolist() == ids.tolist()
    for file in pathlib.Path().glob('*.ids'):
        file.write_bytes(bytes(len(file.read_bytes())))
    assert corpus.encode_folder('library')[0].tolist() == ids.tolist()


def test_no_text_of_a_folder_can_be_read(folder):
    (folder / 'library').mkdir()
    (folder / 'library' / 'bad.txt').write_bytes(b'\xff\xfe\xfa')
    with pytest.raises(CorpusError, match='bad.txt.*none of the 1 texts'):
        corpus.encode_folder('library')
    (folder / 'library' / 'bad.txt').write_text('\n \n')
    with pytest.raises(CorpusError, match='no text'):
        corpus.encode_folder('library')
    assert not list(folder.glob('*.ids'))


def test_near_words():
    vocabulary = ['ホームズ', 'ワトスン', 'ワトソン', '犬', '<eos>', 'ワトスンくん']
    assert set(corpus.near_words('ワトスソ', vocabulary)[:2]) == {'ワトスン', 'ワトソン'}
    assert corpus.near_words('くん', vocabulary) == ['ワトスンくん']
    assert corpus.near_words('xyz', vocabulary) == []
