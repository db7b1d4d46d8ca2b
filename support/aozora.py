"""The layout of Aozora Bunko, https://www.aozora.gr.jp/annotation/: what is text, what is not.

A work is a header (title, author, mostly notes on signs between two rules), a body, a footer.

Works: One file may hold several (cat a.txt b.txt), with or without headers; every body is kept.
What follows a footer is the next work if it has a footer, a sentence or more than twelve lines.

Header: Notes on signs stand between two rules (five - or = and more) and name ルビ or 入力者注,
or show an example; in the nineties ［表記について］ stood above one rule. Without them, title and
author are what stands above the first blank line of a work with a footer: at most six lines, not
indented, the last no sentence; an author below a title of one line, too. They stay if no blank
line follows, or no text.

Footer: It begins at 底本：, 底本「, another word for it (定本, 親本, 初出), 入力：, 校正：,
青空文庫作成ファイル： or ［＃本文終わり］, or at notes of the typist (入力者注) above one of them.
Bodies may have such a line: two blank lines must stand above it in a work with a header, or a
second kind must follow before any sentence. A footer in other words stays in the text.

Ruby: In a work, all 《》 are. In other texts (header and footer are often cut off by hand) only
what is plainly ruby goes: ｜base《any》, or with |; kanji《hiragana》; kanji《katakana》 if the
text has one of the other two. 《《emphasis》》 loses its brackets. 外字 and notes in Japanese,
［＃「字」に傍点］, are read, too. 《Quotations》 stay, and so does ruby in （） or ≪≫.

Headings: Those with a note (見出し) go; one that is not closed is text. A bare number goes by what
surrounds it (_bare_headings).

Accents: 〔〕 hold letters with signs, 〔cafe'〕. An elision is none, nor a comma or a colon at
the end of a word. Not handled: ş and ţ, which would be s, and t, and the English he's.
"""

import bisect
import dataclasses
import re
import unicodedata

_NUMERALS = '[一二三四五六七八九十百〇0-9０-９]{1,7}'
_UNIT = '[章回節話部編篇]'
_HEADING = re.compile(
    rf'[ 　]*(?:第?{_NUMERALS}{_UNIT}?|第{_NUMERALS}{_UNIT}[ 　][^。」]{{0,40}})[ 　]*'
)
_RULE = re.compile(r'\s*(?:-{5,}|={5,})\s*')
_SIGNS = re.compile(
    r'テキスト中に現れる記号|^(?:《》|｜)[：:]|[：:]入力者注|^●[^\n]{0,200}ルビ|^（例）[^\n]{0,200}[《［]',
    re.M,
)
_FOOTER_LINES = {  # how a line of a footer begins
    'source': r'(?:翻訳の|英訳の|使用)?[底定親]本(?:・初出|の親本|の言語)?'
    r'[ 　]*(?:[：:＝=]|(?=[「『]))|(?:原本|原典|出典|初出)[：:]',
    'input': r'(?:テキスト|文字)?入力者?[ 　]*[：:]',
    'proof': r'(?:再)?校正者?[ 　]*[：:]',
    'file': r'青空文庫(?:作成|収録|公開|版|ファイル)|(?:この|此の?)(?:ファイル|作品)は',
    'date': r'[0-9０-９]{4}年[0-9０-９]{1,2}月[0-9０-９]{1,2}日',
    'year': r'　{2,}[0-9０-９]{4}[（年]',
}
_FOOTER_LINE = re.compile('|'.join(f'(?P<{kind}>{how})' for kind, how in _FOOTER_LINES.items()))
_TYPIST = re.compile('[［（(●＊※・【■]*入力者補?[注註](?:$|[0-9０-９：:）)］】])')
_LICENCE = re.compile('ライセンス|クリエイティブ|ボランティア|著作|皆さんです。')
_LABEL = re.compile('[^\\s。、「」：:]{1,8}[：:]|　　　|※')
_CONTINUED = '※', '●', '・', '　　'  # how other lines of a footer may begin
_PARAGRAPH = re.compile(r'　[^　0-9０-９].*[。！？…」』）]\s*')
_SENTENCE = re.compile(rf'{_PARAGRAPH.pattern}|[「『].*[。！？…」』]\s*|.*。\s*')
FEW = 0.03  # of a text's lines may be left out without a word
PIECE = 2000  # lines of a large text that are cleaned at once
_NEAR = 40  # lines in which a header or footer shows what it is

_KANJI = '\u3400-\u9fff々〆〇〓'
_BASE = '[|｜]([^|｜《》\n 　](?:[^|｜《》\n]{0,28}[^|｜《》\n 　])?)'
_NOTE = '［＃((?:[^［］\n]|［(?!＃)[^［］\n]*］)*)］'  # with no note inside
_SIZE = '((?:同行|窓)?[大中小]見出し)'

_MARKS = str.maketrans("`'^~:&,_", '\u0300\u0301\u0302\u0303\u0308\u030a\u0327\u0304')
_LETTERS = dict(zip('AE& ae& OE& oe& s& O/ o/ L/ l/ D/ d/ !@ ?@'.split(), 'ÆæŒœßØøŁłĐđ¡¿'))
_ACCENTED = re.compile(
    '|'.join(map(re.escape, _LETTERS))
    + r'|(?i:[aeiou][`^~_]|n~|[cghjswy]\^|[au]&)'
    # acute, but not in qu'on, I'm
    + r"|(?i:(?<!q)u'|(?!\bI'(?:m|d|ll|ve)\b)[aeioy]')"
    # acute, but not in l'amour, c'est, n'y, don't, Jones'
    + r"|(?i:[cnzlr]'(?![aeiouyht])|s'(?![aeiouyht]|\W|$))"
    # diaeresis, but not in Note: and before a capital
    + r'|[aeiouy]:(?=[a-z]|[,.;!?)-]|$)|[AEIOUY]:(?=[A-Za-z]|[,.;!?)-]|$)|(?<=o)e:'
    # cedilla, but not in etc,etc and before a capital
    + r'|(?<!et)c,(?=[a-z])|C,(?=[A-Za-z])'
)


@dataclasses.dataclass
class Lines:
    """How many lines of texts there are, blank ones aside, and how many of them are left out."""

    total: int = 0
    left_out: int = 0

    def remarks(self, name):
        """A line (list of str) on what is left out of the text `name`, if it is more than FEW."""
        if self.left_out <= FEW * self.total:
            return []
        share = f'{self.left_out:,} of {self.total:,} lines'
        return [f'{name}: {share} left out as headers, footers, headings or notes']


def running_text(lines, counted=None):
    """Yields the running text of a document in pieces (str), of whole lines: that of each work.

    lines: the document, a sequence of str. Header, footer, headings, ruby, notes and blank lines
    go; notes on characters outside of Shift_JIS (外字) and accents become the characters that they
    describe, or 〓 where they name none. Of a text that is in no layout, only what is plainly ruby,
    or a note in Japanese, goes. counted: a Lines, which counts what is left out, or None. Every
    line ends with '\\n'.
    """
    counted, empty = counted or Lines(), True
    filled = _count_filled(lines)
    counted.total += filled
    counted.left_out += filled
    bodies = _bodies(lines)
    is_plain = bodies == [(0, len(lines))]
    works = (_clean_body('\n'.join(lines[first:last])) for first, last in bodies)
    for piece in filter(None, _without_ruby(lines) if is_plain else works):
        counted.left_out -= _count_filled(piece.split('\n'))
        empty = False
        yield piece if piece.endswith('\n') else piece + '\n'
    if empty:
        yield '\n'


def _count_filled(lines):
    """How many of some lines (iterable of str) are not blank."""
    return sum(map(bool, map(str.strip, lines)))


def _without_ruby(lines):
    """Yields a text in no layout (str), in pieces of whole lines, without plain ruby and notes."""

    def pieces():
        for first in range(0, len(lines), PIECE):
            end = '\n' if first + PIECE < len(lines) else ''
            yield '\n'.join(lines[first : first + PIECE]) + end

    is_ruby = has_notes = False
    notes = f'［＃[^\n］]*[ぁ-ヺ{_KANJI}]'
    for piece in pieces():
        piece, ruby = _without_sure_ruby(piece)
        is_ruby = is_ruby or ruby > 0
        has_notes = has_notes or bool(re.search(notes, piece))

    def without(piece):
        piece = _without_sure_ruby(piece)[0]
        katakana = rf'(?<=[{_KANJI}］])《[ァ-ヺヽヾー・＝　]{{1,30}}》'
        return re.sub(katakana, '', piece) if is_ruby else piece

    if not has_notes:
        yield from map(without, pieces())
        return
    whole = ''.join(map(without, pieces()))  # the heading that a note marks may have many lines
    yield _without_notes(whole) if re.search(notes, whole) else whole


def _without_sure_ruby(text):
    """(a text (str) without ruby that has a base or hiragana, how much of that it had)."""
    if '《' not in text:
        return text, 0
    text = re.sub('《《([^《》\n]+)》》', r'\1', text)
    text, with_base = re.subn(rf'{_BASE}《[^《》\n]{{1,50}}》', r'\1', text)
    text, hiragana = re.subn(rf'(?<=[{_KANJI}］])《[ぁ-ゖゝゞー・]{{1,20}}》', '', text)
    return text, with_base + hiragana


# Works: header, body, footer


def _bodies(lines):
    """[(first, last), ...] line numbers of the works, `last` excluded; of other texts all lines."""
    bodies = []
    below = None
    for top, next_below in [*_headers(lines), (len(lines), None)]:
        bodies += _bodies_between(lines, below, top)
        below = next_below
    return bodies


def _bodies_between(lines, below, limit):
    """Yields the bodies between the line below a header (None: no header) and the next header."""
    has_header, first = below is not None, below or 0
    while first < limit:
        last, end = _footer(lines, first, limit, has_header)
        if not has_header and (first, last) != (0, len(lines)):
            if last == limit and not _is_running_text(lines[first:limit]):
                return  # what is left of a title or of a footer
            if last < limit or first:
                first = _below_title(lines, first, last)
        yield first, last
        first, has_header = end, False


def _headers(lines):
    """[(first line of the title, line below the notes), ...] of the works with notes on signs."""
    rules = [i for i, line in enumerate(lines) if _RULE.fullmatch(line)]
    headers, known = [], set()
    for rule, following in zip(rules, rules[1:]):
        between = lines[rule + 1 : min(following, rule + 2 * _NEAR)]
        whole = following - rule <= len(between) + 1 and not any(map(_FOOTER_LINE.match, between))
        if whole and rule + 1 not in known and _SIGNS.search('\n'.join(between)):
            headers.append((rule, following + 1))
            known.add(following + 1)
    for i, line in enumerate(lines):
        if line.startswith('［表記について］') and rules and i < rules[-1]:
            rule = rules[bisect.bisect(rules, i)]
            if rule - i < _NEAR and rule + 1 not in known:
                headers.append((i, rule + 1))
    return [(_title_above(lines, first), below) for first, below in sorted(headers)]


def _title_above(lines, first):
    """The number of the first line of the title above a line."""
    while first and not lines[first - 1].strip():
        first -= 1
    top = first
    while top and lines[top - 1].strip() and not _RULE.fullmatch(lines[top - 1]):
        if _FOOTER_LINE.match(lines[top - 1]) or _PARAGRAPH.fullmatch(lines[top - 1]):
            break
        top -= 1
    return top if first - top <= 8 else first - 2


def _below_title(lines, first, limit):
    """The number of the line below title and author, or `first` if there are none."""
    top, end = _block(lines, first, limit)
    title = lines[top:end]
    if not 0 < len(title) <= 6 or title[0][0] in ' 　' or not _is_title(title[-1]):
        return first
    if any(map(_PARAGRAPH.fullmatch, title)):
        return first
    author, below = _block(lines, end, limit)
    alone = len(title) == below - author == 1 and lines[author][0] not in ' 　'
    if alone and _is_title(lines[author]) and _block(lines, below, limit)[0] < limit:
        end = below
    body, _ = _block(lines, end, limit)
    if body == limit:
        return first
    return body + 1 if _RULE.fullmatch(lines[body]) else body


def _block(lines, first, limit):
    """(first, last) line numbers of the next lines without a blank one between them."""
    while first < limit and not lines[first].strip():
        first += 1
    last = first
    while last < limit and lines[last].strip():
        last += 1
    return first, last


def _is_title(line):
    """True for a line that may be a title or name an author."""
    other = _RULE, _HEADING, _SENTENCE
    return (
        0 < len(line.strip()) <= 100
        and not line.startswith('［＃')
        and not any(pattern.fullmatch(line) for pattern in other)
        and not _FOOTER_LINE.match(line)
    )


def _is_running_text(lines):
    return any(map(_SENTENCE.fullmatch, lines)) or _count_filled(lines) > 12


def _footer(lines, first, limit, has_header):
    """(first, last) line numbers of the next footer, with what belongs to it above its source."""
    for i in range(first, limit):
        source = _source_below(lines, i, limit, has_header)
        if source is not None:
            top = i  # of the lines with another word for the source, if blank lines stand above
            while top > first and _LABEL.match(lines[top - 1]):
                top -= 1
            i = top if top > first and not lines[top - 1].strip() else i
            while i > first and (not lines[i - 1].strip() or _RULE.fullmatch(lines[i - 1])):
                i -= 1
            return i, _footer_end(lines, source, limit)
    return limit, limit


def _source_below(lines, i, limit, has_header):
    """The line number of the source, if a footer or the notes above it begin at line i, or None."""
    line = lines[i]
    ended = line.startswith('［＃本文終わり］')
    rule = _RULE.fullmatch(line) and re.match('●|※(?![［※　])', ''.join(lines[i + 1 : i + 2]))
    if not ended and not rule and not _TYPIST.match(line):
        return i if _is_footer(lines, i, limit, has_header) else None
    for j in range(i + 1, min(i + _NEAR, limit)):
        if _is_footer(lines, j, limit, has_header):
            return j
        other = lines[j].strip() and not lines[j].startswith(_CONTINUED)
        if other and (_PARAGRAPH.fullmatch(lines[j]) or rule and not _RULE.fullmatch(lines[j])):
            break
    return i + 1 if ended else None


def _is_footer(lines, i, limit, has_header):
    """True if line i is the first of two kinds that tell source, typist, proof-reader or file.

    The source alone is enough at the end of a work with a header.
    """
    match = _FOOTER_LINE.match(lines[i])
    if not match or match.lastgroup in ('date', 'year'):
        return False
    if has_header and match.lastgroup == 'source' and not ''.join(lines[i - 2 : i]).strip():
        return True  # two blank lines above: no line of a body
    kinds, others = set(), 0
    for line in lines[i : min(i + _NEAR, limit)]:
        match = _FOOTER_LINE.match(line)
        kind = match and match.lastgroup
        if others and kind == 'source' and kinds == {kind}:
            return False  # that line is the first
        if kind == 'file' or kind and not _SENTENCE.fullmatch(line):
            kinds.add(kind)
            if len(kinds) > 1 and kinds & {'source', 'file', 'proof'}:
                return True
        elif line.strip() and not line.startswith(_CONTINUED) and not _LICENCE.search(line):
            others += 1
            if _SENTENCE.fullmatch(line):
                return False
    return has_header and 'source' in kinds and others < 3


def _footer_end(lines, first, limit):
    """The number of the line below a footer, as far as its lines look like one."""
    end = first + 1
    named = complete = interrupted = False  # by other lines
    for i in range(first, limit):
        match = _FOOTER_LINE.match(lines[i])
        kind = match and match.lastgroup
        if interrupted and re.match('底本[：:「『]', lines[i]):
            break  # the next work's
        named = named or kind in ('input', 'proof')
        complete = complete or kind == 'file'
        if kind or lines[i].startswith(_CONTINUED) or complete and _LICENCE.search(lines[i]):
            end = i + 1
        elif lines[i].strip():
            interrupted = True
            if complete or named and _PARAGRAPH.fullmatch(lines[i]):
                break
    return end


# What a body holds besides its text


def _clean_body(text):
    """The running text (str) of one work."""
    marked = '見出し］' in text
    text = re.sub('《《([^《》\n]+)》》', r'\1', text)
    text = re.sub(r'《[^《》\n]*》|｜', '', text)
    text = _without_notes(text)
    text = re.sub(r'［※[0-9０-９]+］', '', text)
    text = re.sub(r'〔([^〔〕\n]*)〕', _with_accents, text)
    text = text.replace('／″＼', '〴〵').replace('／＼', '〳〵')
    lines = text.split('\n')
    headings = _bare_headings(lines, marked)
    return ''.join(
        line + '\n' for i, line in enumerate(lines) if line.strip() and i not in headings
    )


def _without_notes(text):
    """A text (str) without notes and the headings that they mark; 外字 become characters."""
    for _ in range(9):  # notes may hold notes; a bound, so that nesting takes no quadratic time
        text = re.sub(f'※{_NOTE}', _described_character, text)
    opened = f'(?!［＃(?:ここから)?{_SIZE[1:-1]}］)'  # a heading that is not closed ends nowhere
    closed = r'{0,500}?［＃(?:ここで)?\1終わり］'
    text = re.sub(f'［＃{_SIZE}］(?:{opened}[^\n]){closed}', '', text)
    text = re.sub(f'［＃ここから{_SIZE}］(?:{opened}.){closed}', '', text, flags=re.S)
    text = '\n'.join(
        _without_heading(line) if '見出し］' in line else line for line in text.split('\n')
    )
    for _ in range(9):
        text = re.sub(_NOTE, '', text)
    return text


def _without_heading(line):
    """A line without the heading that its note names; nothing is left where the two differ."""
    line = re.sub(r'([^［］]{1,100})［＃「\1」は(?:同行|窓)?[大中小]見出し］', '', line)
    return '' if re.search('は[大中小]見出し］', line) else line


def _bare_headings(lines, marked):
    """The numbers (set) of the lines of a work that are nothing but the number of a chapter.

    Such a line has a blank line above, or is indented twice and not inside a dialogue; the number
    before or after it (一、二、三) stands on such a line, too, but not on the very next. The first
    number, or one with 第, needs no other if blank lines stand above and below, it is not inside
    a dialogue, and no other heading has a note (`marked`).
    """
    filled = [i for i, line in enumerate(lines) if line.strip()]
    numbers = {i: _chapter(lines[i]) for i in filled if _HEADING.fullmatch(lines[i])}
    places = {}
    for i, number in numbers.items():
        places.setdefault(number, []).append(i)
    headings = set()
    for above, i, below in zip([-2, *filled], filled, [*filled[1:], len(lines) + 1]):
        if i not in numbers or i - 1 in numbers or i + 1 in numbers:
            continue
        kind, value = numbers[i]
        before, after = places.get((kind, value - 1), [i]), places.get((kind, value + 1), [i])
        dialogue = above >= 0 and lines[above].lstrip(' 　')[0] in '「『'
        dialogue = dialogue and below < len(lines) and lines[below].lstrip(' 　')[0] in '「『'
        blank_above = above < i - 1
        if before[0] < i or after[-1] > i:
            heading = blank_above or lines[i][:2].isspace() and not dialogue
        else:
            heading = blank_above and below > i + 1 and not marked and not dialogue
            heading = heading and (value == 1 or '第' in kind)
        if heading:
            headings.add(i)
    return headings


def _chapter(line):
    """(the line without its number and title, the number (int)) of a heading."""
    heading = line.split()[0]
    total = digits = 0
    for numeral in map(unicodedata.numeric, re.search(_NUMERALS, heading)[0]):
        if numeral < 10:
            digits = digits * 10 + int(numeral)
        else:
            total, digits = total + (digits or 1) * int(numeral), 0
    return re.sub(_NUMERALS, '', heading), total + digits


def _described_character(match):
    """The character named by plane-row-cell of JIS X 0213 or by U+hex."""
    code = re.search(r'U\+([0-9A-Fa-f]{4,6})', match[1])
    if code:
        n = int(code[1], 16)  # Cc are controls, Cs surrogates
        valid = n < 0x110000 and unicodedata.category(chr(n)) not in ('Cc', 'Cs')
        return chr(n) if valid else '〓'
    code = re.search(r'(?<![0-9-])([12])-([0-9]{1,2})-([0-9]{1,2})(?![0-9-])', match[1])
    if not code:
        return '〓'
    plane, row, cell = map(int, code.groups())
    try:
        return (b'\x8f' * (plane - 1) + bytes([0xA0 + row, 0xA0 + cell])).decode('euc_jis_2004')
    except ValueError:  # no such cell, or an empty one
        return '〓'


def _with_accents(match):
    """The text in 〔〕 with its accents, without the brackets; as it stands if it has no signs."""

    def letter(accented):
        code = accented[0]
        composed = unicodedata.normalize('NFC', code[0] + code[1].translate(_MARKS))
        return _LETTERS.get(code) or composed

    inner, count = _ACCENTED.subn(letter, match[1])
    signs = match[1].isascii() and re.search("[A-Za-z][`'^~:&,_]", match[1])  # as in 〔qu'on〕
    return inner if count or signs else match[0]
