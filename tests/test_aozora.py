"""support/aozora.py: what is left of a text in Aozora Bunko's layout."""

import re

import pytest

from support.aozora import Lines, running_text
from support.source import DATA
from support.text import read

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


def clean(text):
    """The running text (str) of a document (str)."""
    return ''.join(running_text(text.split('\n')))


def in_layout(body):
    """A text in Aozora Bunko's layout with this body."""
    return (
        AOZORA[: AOZORA.index('［＃５字下げ］')]
        + body
        + '\n'
        + AOZORA[AOZORA.index('\n\n\n底本') :]
    )


def test_aozora_layout_is_removed():
    assert clean(AOZORA) == '　親譲りの古い無鉄砲で損をした。\n　本文の終わり。\n'


@pytest.mark.parametrize(
    'body, expected',
    [
        ('※［＃「てへん＋劣」、第3水準1-84-77］《むし》る', '挘る'),
        ('※［＃「しんにょう」、第4水準2-89-93］', b'\x8f\xf9\xfd'.decode('euc_jis_2004')),
        ('※［＃丸１、1-13-1］※［＃感嘆符二つ、1-8-75］', '①‼'),
        ('※［＃「土へん＋竒」、U+57FC、16-下-9］', '埼'),
        ('※［＃「りっしんべん＋巧」、126-1］', '〓'),
        ('※［＃虫、U+0000］※［＃改行、U+000A］※［＃虫、U+D800］', '〓〓〓'),
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
        (
            '［＃大見出し］上［＃大見出し終わり］\n私は\n［＃大見出し］下［＃大見出し終わり］\nあなたは',
            '私は\nあなたは',
        ),
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
        ("〔a` ce qu'on dit〕", "à ce qu'on dit"),
        ("〔Jusqu'a` l'e'te', quelqu'un n'y va, QU'IL〕", "Jusqu'à l'été, quelqu'un n'y va, QU'IL"),
        ("〔I'm, I'll, the Joneses' cafe'〕", "I'm, I'll, the Joneses' café"),
        ("〔qu'on〕〔nicht,ihr〕〔sic〕〔甲:a'乙〕", "qu'onnicht,ihr〔sic〕甲:á乙"),
        ('〔nicht,ihr scho:n; Tagt,Es〕', 'nicht,ihr schön; Tagt,Es'),
        (
            '〔c,a, garc,on, MAC,ON, C,ila, c,abda, etc,etc, Franc,Ici〕',
            'ça, garçon, MAÇON, Çila, çabda, etc,etc, Franc,Ici',
        ),
        (
            '〔Poe:〕と〔Nexo:, Poe: o:〕と〔Hai:kai: Fichte: u:ber〕',
            'PoëとNexö, Poë öとHaïkai: Fichte: über',
        ),
        ('〔Note:Eine〕〔o:〕', 'Note:Eineö'),
        ('不堪［＃「堪」に「［ママ］」の注記］ず', '不堪ず'),
        ('※［＃「女＋※［＃第3水準1-85-57］のつくり」、1-2］さん', '〓さん'),
        ('記［＃「［記］」は底本では「［※［＃「口＋愛」、第3水準1-15-23］］」］す', '記す'),
        (
            '［＃中見出し］第一の話\n　本文。\n\n［＃中見出し］二［＃中見出し終わり］\n　次。',
            '第一の話\n　本文。\n　次。',
        ),
        (
            '［＃ここから大見出し］\n話\n　本文。\n'
            '［＃ここから大見出し］\n次\n［＃ここで大見出し終わり］\n　次。',
            '話\n　本文。\n　次。',
        ),
        ('［＃同行中見出し］題［＃同行中見出し終わり］　本文', '　本文'),
        ('「いくつ」\n　十\n「そうか」', '「いくつ」\n　十\n「そうか」'),
        ('「いくつ」\n\n　十\n\n「そうか」', '「いくつ」\n　十\n「そうか」'),
        ('「どこ」\n　第三章\n「そうか」', '「どこ」\n　第三章\n「そうか」'),
        ('「言へ」\n　一\n「次」\n　二\n「次」', '「言へ」\n　一\n「次」\n　二\n「次」'),
        ('数へる。\n\n　一\n　二\n　三\n\n終はる。', '数へる。\n　一\n　二\n　三\n終はる。'),
        ('　　　一\n　木。\n　　　二\n　山。', '　木。\n　山。'),
        (
            '　木。\n\n九\n「そうか」\n　十\n「いや」\n\n十\n　山。',
            '　木。\n「そうか」\n　十\n「いや」\n　山。',
        ),
        ('　木。\n\n二十\n\n　山。', '　木。\n二十\n　山。'),
        ('　木。\n\n第二章　山\n\n　山。', '　木。\n　山。'),
        (
            '［＃３字下げ］序［＃「序」は中見出し］\n　木。\n\n　　一\n\n　山。',
            '　木。\n　　一\n　山。',
        ),
    ],
)
def test_aozora_notation(body, expected):
    text = in_layout(body)
    assert clean(text) == expected + '\n'


def test_layout_of_the_nineties():
    text = (
        f'題［※１］\n作者\n\n［表記について］\n●ルビは《ルビ》\n{DASHES}\n　本文《ほんぶん》\n'
        f'{DASHES}\n※１　題＝名前\n{DASHES}\n底本：「本」\n青空文庫作成ファイル：'
    )
    assert clean(text) == '　本文\n'


def test_several_works_in_one_file():
    text = AOZORA + in_layout('　二つ目の本文。') + AOZORA.replace('損をした', '得をした')
    assert clean(text) == (
        clean(AOZORA) + '　二つ目の本文。\n' + clean(AOZORA).replace('損をした', '得をした')
    )


def test_a_work_may_begin_with_a_heading_though_no_blank_line_ends_the_one_before():
    works = in_layout('前') + in_layout('一\n\n後')
    works = works.replace('\n\n\n\n底本', '\n底本').replace(f'{DASHES}\n\n一', f'{DASHES}\n一')
    assert clean(works) == '前\n後\n'


def test_header_in_other_words():
    text = f'題\n作者\n{DASHES}\n●ルビは《》で示した\n{DASHES}\n　本文《ほんぶん》\n底本：「本」\n'
    assert clean(text) == '　本文\n'


def test_footer_alone_is_enough():
    assert clean('　本文《ほんぶん》\n\n底本：「本」\n青空文庫作成ファイル：') == '　本文\n'


def test_nested_notes_take_no_long_time():
    """Linear: a quadratic search would need minutes for these."""
    assert clean(in_layout('［＃' * 50000 + '］' * 50000)).count('［＃') == 49991
    plain = f'{DASHES}\n' + '●' * 200000 + f'\n{DASHES}\n'
    assert clean(plain) == plain


def test_a_long_line_takes_no_long_time():
    """Linear: a quadratic search would need minutes for this."""
    body = '長い' * 200000 + '［＃「長い」は中見出し］' + '［＃大見出し］' * 20000
    assert clean(in_layout(body)) == '長い' * 199999 + '\n'


@pytest.mark.parametrize(
    'text',
    [
        '山が見える。\n\n一\n\n底本：という言葉\n',
        '入力：五\n出力：七\n',
        f'# Title\n{DASHES}\n《quoted》 text ［＃note］\n{DASHES}\nmore\n',
        'Tom《1》\n',
    ],
)
def test_other_texts_are_left_alone(tmp_path, text):
    (tmp_path / 'a.txt').write_text(text, encoding='utf-8')
    assert read(tmp_path / 'a.txt') == text


FOOTER = """底本：「ある本」ある社
　　　1990（平成2）年1月1日発行
入力：某
校正：某
2000年1月1日公開
青空文庫作成ファイル：
このファイルは、インターネットの図書館、青空文庫（http://www.aozora.gr.jp/）で作られました。
"""
HEADER = AOZORA[: AOZORA.index('\n［＃５字下げ］')]


@pytest.mark.parametrize('blank', ['', '\n', '\n\n\n'])
def test_every_body_of_joined_works_is_kept(blank):
    """cat a.txt b.txt c.txt: without headers, with one of them at the beginning, middle or end."""
    plain = [f'題{n}\n作者\n\n\n　{n}の木《き》が立つ。\n{blank}{FOOTER}' for n in '甲乙丙']
    headed = HEADER + f'　丁の山《やま》が立つ。\n{blank}{FOOTER}'
    poem = f'詩\n作者\n\n花が散る\n\n鳥が鳴く\n{blank}{FOOTER}'
    lines = [*(f'　{n}の木が立つ。\n' for n in '甲乙丙')]
    assert clean(''.join(plain)) == ''.join(lines)
    assert clean(headed + ''.join(plain)) == '　丁の山が立つ。\n' + ''.join(lines)
    assert clean(plain[0] + headed + plain[1]) == lines[0] + '　丁の山が立つ。\n' + lines[1]
    assert clean(blank.join(plain) + headed) == ''.join(lines) + '　丁の山が立つ。\n'
    assert (
        clean(poem + plain[0] + poem) == '花が散る\n鳥が鳴く\n' + lines[0] + '花が散る\n鳥が鳴く\n'
    )


def test_notes_on_signs_above_one_rule_in_joined_works():
    nineties = f'題\n某\n\n［表記について］\n●ルビは《ルビ》\n{DASHES}\n　川《かわ》。\n'
    first = HEADER + '　木《き》。\n\n' + FOOTER
    assert clean(first + nineties + FOOTER) == '　木。\n　川。\n'
    assert clean(nineties + FOOTER + first) == '　川。\n　木。\n'
    assert clean(first.replace('　木', f'　木\n{DASHES}\n　木') + nineties).count('　木') == 2


def test_a_work_without_a_footer_is_kept_among_others():
    plain = f'題\n作者\n\n　木が立つ。\n\n{FOOTER}'
    headed = HEADER + '　山が立つ。\n'
    assert (
        clean('　前の話。\n\n' + headed + '\n' + plain)
        == '　前の話。\n　山が立つ。\n題\n作者\n　木が立つ。\n'
    )
    assert clean(headed + headed + plain[: plain.index('底本')]).count('　山が立つ。\n') == 2
    assert clean(plain + '　後の話。\n') == '　木が立つ。\n　後の話。\n'
    short = HEADER + '　短い。\n\n底本：「本」社\n入力：某\n校正：某\n'
    assert clean(short + plain) == '　短い。\n　木が立つ。\n'


@pytest.mark.parametrize(
    'top, body',
    [
        ('題\n某\n\n\n', '　木が立つ。\n'),
        ('題\n――副題――\n某\n訳者訳\n\n', '　木が立つ。\n'),
        ('題\n\n某\n\n', '　木が立つ。\n'),
        ('今日は寒い。\n某\n\n', '　木が立つ。\n'),
        ('「いろは」\n某\n\n', '「に」\n'),
        (f'題\n某\n\n{DASHES}\n\n', '　木が立つ。\n'),
        ('', '　木が立つ。\n　山が見える。\n'),
        ('', '　木が立つ。\n'),
        ('', '木が立つ\n'),
        ('', '「いくつ」\n「十」\n　山が見える。\n'),
    ],
)
def test_title_and_author_without_notes(top, body):
    assert clean(top + body + FOOTER) == body
    assert clean(top + body + '\n\n\n' + FOOTER) == body


@pytest.mark.parametrize(
    'footer',
    [
        '底本:「本」社\n入力:某\n校正:某\n',
        '底本「本」社\n　　　1951（昭和26）年8月15日発行\n入力：某\n',
        '底本　「本」社\n入力：某\n',
        '定本：「本」社\n　　　1990（平成2）年7月20日初版\n入力：某\n校正：某\n',
        '親本：「本」社\n入力：某\n',
        '初出：「誌」\n　　　1997（平成9）年7月7日\n入力：某\n',
        '翻訳の底本：A Book\n※この翻訳は自由です。\n翻訳者：某\n2020年7月8日作成\n'
        '青空文庫収録ファイル：\n',
        '入力：某\n校正：某\n2000年1月1日公開\n',
        'テキスト入力者：某\n校正者：某\n',
        '青空文庫作成ファイル：\nこのファイルは、青空文庫で作られました。\n2000年1月1日公開\n',
        '入力者注\n・仮名は改めた。\n　云う→いう\n\nテキスト入力者：某\n校正者：某\n',
        '（入力者注）\n仮名は改めた。\n底本：「本」社\n入力：某\n',
        '［＃本文終わり］\nThis is a translation.\n　　　2015（平成27）年初訳\n※自由です。\n',
        f'{DASHES}\n●入力者注\n※１　馬＝動物。\n{DASHES}\n底本：「本」社\n入力：某\n',
        '底本：「本」社\n※行を改めた。\n　一行目「ア」は、底本では「イ」。\n入力：某\n',
    ],
)
def test_footers(footer):
    """Each ends a body, with and without a header and blank lines."""
    assert clean(HEADER + '\n　木《き》が立つ。\n\n\n' + footer) == '　木が立つ。\n'
    if not footer.startswith('底本：「本」社\n※'):  # looks like a body's where no blank lines stand
        assert clean(HEADER + '　木《き》が立つ。\n' + footer) == '　木が立つ。\n'
        if '本文終わり' not in footer:
            assert clean('題\n某\n\n　木《き》が立つ。\n\n' + footer) == '　木が立つ。\n'


def test_a_footer_that_names_its_source_in_other_words():
    footer = '原作：「本」社\n　　　1990（平成2）年1月1日発行\n入力：某\n校正：某\n'
    assert clean(HEADER + '　木《き》。\n甲：「はい」\n\n' + footer) == '　木。\n甲：「はい」\n'
    assert clean('題\n某\n\n甲：はい\n\n' + footer) == '甲：はい\n'


@pytest.mark.parametrize(
    'line',
    [
        '底本：という字が見えた。',
        '底本：「古い本」',
        '底本「古い本」を開いた。',
        '入力：と書いてある。',
        '入力：五',
        '青空文庫は図書館である。',
        '定本：四十円',
        '入力者注という札が立つ。',
        f'{DASHES}\n※印の所を見よ。',
        f'{DASHES}\n※［＃二の字点、1-2-22］と書く。',
        f'{DASHES}\n●一つ目',
    ],
)
def test_a_body_line_like_a_footer_cuts_nothing_off(line):
    kept = line.replace('※［＃二の字点、1-2-22］', '〻')
    for after in ('　後の段落。\n', '「そうか」\n', '後の行\n次の行\nその次\n　終わり。\n'):
        text = f'　前の段落。\n{line}\n{after}'
        expected = f'　前の段落。\n{kept}\n{after}'
        assert clean(HEADER + text + '\n' + FOOTER) == expected
        assert clean(HEADER + text + FOOTER) == expected
        assert clean('題\n某\n\n' + text + '\n' + FOOTER) == expected


@pytest.mark.parametrize(
    'notes',
    [
        '---------\n【テキスト中に現れる記号について】\n\n《》：ルビ\n---------',
        f'{DASHES}\n［＃］：入力者注　主に傍点の位置\n（例）緑［＃「緑」に傍点］\n{DASHES}',
        f'{DASHES}\n（例）緑［＃「緑」に傍点］\n{DASHES}',
        f'{DASHES}\n《》:ルビ\n{DASHES}',
        '［表記について］\n●ルビは「《ルビ》」の形式で処理した。\n' + '=' * 50,
        '［表記について］\n●くの字点は「／＼」で代用した。\n' + '-' * 9,
    ],
)
def test_headers(notes):
    """Known by their notes alone, and with a footer."""
    assert clean(f'題\n某\n\n{notes}\n　木《き》が立つ。\n') == '　木が立つ。\n'
    assert (
        clean(f'「題」\n――なんだか聞える。\n某\n\n{notes}\n\n　木《き》が立つ。\n{FOOTER}')
        == '　木が立つ。\n'
    )


@pytest.mark.parametrize(
    'text, expected',
    [
        ('|魔法《マジック》を使う。', '魔法を使う。'),
        ('｜Star Wars《スターウォーズ》を見た。', 'Star Warsを見た。'),
        ('親譲《おやゆず》りの佐々木《ささき》', '親譲りの佐々木'),
        ('《《傍点》》を打つ', '傍点を打つ'),
        ('山《やま》の魔法《マジック》', '山の魔法'),
        ('※［＃「てへん＋劣」、第3水準1-84-77］《むし》る', '挘る'),
        ('言葉［＃「言葉」に傍点］《ことば》', '言葉'),
        ('［＃３字下げ］山《やま》の上', '山の上'),
    ],
)
def test_ruby_without_header_and_footer(tmp_path, text, expected):
    (tmp_path / 'a.txt').write_text(f'　題\n\n{text}\n\n一\n', encoding='utf-8')
    assert read(tmp_path / 'a.txt') == f'　題\n\n{expected}\n\n一\n'


@pytest.mark.parametrize(
    'text',
    [
        '《引用》から始まる',
        '彼は《はい》と言った',
        '小説《吾輩は猫である》を読む',
        '絵画《モナ・リザ》を見た',
        '書名《ABC》と≪山≫、漢字（かんじ）',
        '| a | 《b》 |\n| - | --- |',
        'a || b 《c》',
        'array[#1] ［note］ ［＃note］',
        'Tom《1》',
    ],
)
def test_quotations_are_no_ruby(text):
    assert clean(text) == text + '\n'


def test_what_a_note_describes_is_composed(tmp_path):
    (tmp_path / 'a.txt').write_text(in_layout('か※［＃濁点、U+3099］'), encoding='utf-8')
    assert read(tmp_path / 'a.txt') == 'が\n'


def test_lines_left_out_are_told(tmp_path):
    """Counted by hand: the header has 7 lines, the footer 7, a heading 1; blank ones aside."""
    (tmp_path / 'a.txt').write_text(
        HEADER + '\n一\n\n　木《き》が立つ。\n　山。\n\n' + FOOTER, encoding='utf-8'
    )
    lines = Lines()
    read(tmp_path, lines=lines)
    assert lines == Lines(17, 15)
    assert lines.remarks('a.txt') == [
        'a.txt: 15 of 17 lines left out as headers, footers, headings or notes'
    ]
    assert Lines(1000, 10).remarks('a.txt') == []


def test_our_own_story():
    text = read(DATA / 'holmes.txt')
    assert len(text) >= 15000
    assert text.startswith('　十一月十五日の、空の低い昼過ぎのことである。') and text.endswith(
        '　晴れ。\n'
    )
    assert not re.search('[《》｜＃※〔〕]|--|字下げ|見出し|底本', text)
    assert all(word in text for word in ('挘り', '摑んだ', 'café', 'Pléiade'))


def test_firsts_lasts_and_lengths_of_real_texts(aozora):
    """Nothing of the layout is left in eleven works."""
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
        text = read(path)
        assert text.startswith(firsts[path.name[:4]]) and text.endswith(lasts[path.name[:4]] + '\n')
        assert not re.search(
            '[《》｜＃※]|--|字下げ|は[大中小]見出し|^[一二三四五六七八九十]+$', text, re.M
        )
        assert len(text) == characters[path.name[:4]]  # as read against the originals


NOTATION = [  # what opens it, what closes it, what it stands for (a regular expression)
    ('※［＃', '］', '.'),
    ('［＃', '］', ''),
    ('［※', '］', ''),
    ('《', '》', ''),
    ('｜', '｜', ''),
]


def paragraphs(text):
    """A regular expression (str) for each paragraph of a real text, found letter by letter.

    Left out: blank lines, headings with a note (見出し), lines of nothing but a number.
    """
    lines = text.replace('\r\n', '\n').replace('\r', '\n').split('\n')
    explained = next(i for i, line in enumerate(lines) if 'ルビ' in line)
    first = next(i for i in range(explained, len(lines)) if lines[i].startswith('---')) + 1
    after = ('底本', '翻訳の底本', '---', '［＃本文終わり］')
    last = next(i for i in range(first, len(lines)) if lines[i].startswith(after))
    for line in lines[first:last]:
        if not line.strip('　一二三四五六七八九十') or '見出し］' in line:
            continue
        expression = ''
        while line:
            for opening, closing, meaning in NOTATION:
                if line.startswith(opening):
                    expression += meaning
                    line = line[line.index(closing) + 1 :]
                    break
            else:
                expression += re.escape(line[0])
                line = line[1:]
        if expression:
            yield expression


def test_every_paragraph_of_real_texts_is_kept(aozora):
    """All paragraphs of eleven works, in their order, and nothing else."""
    paths = sorted(aozora.glob('*.txt'))
    assert len(paths) == 11
    for path in paths:
        expected = list(paragraphs(path.read_bytes().decode('cp932')))
        lines = read(path).splitlines()
        assert len(lines) == len(expected) > 0, path
        for line, expression in zip(lines, expected):
            assert re.fullmatch(expression, line), (path, line)
