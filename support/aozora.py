"""The layout of Aozora Bunko, https://www.aozora.gr.jp/annotation/: what is text, what is not."""

import re
import unicodedata

_SOURCE_LINE = re.compile(r'(?:翻訳の)?底本(?:・初出|の親本)?：')
_NUMERALS = '[一二三四五六七八九十百〇0-9０-９]+'
_UNIT = '[章回節話部編篇]'
_HEADING = re.compile(
    rf'[ 　]*(?:第?{_NUMERALS}{_UNIT}?|第{_NUMERALS}{_UNIT}[ 　][^。」]{{0,40}})[ 　]*'
)
_MARKS = str.maketrans("`'^~:&,_", '\u0300\u0301\u0302\u0303\u0308\u030a\u0327\u0304')
_LETTERS = dict(zip('AE& ae& OE& oe& s& O/ o/ L/ l/ D/ d/ !@ ?@'.split(), 'ÆæŒœßØøŁłĐđ¡¿'))
_ACCENTED = re.compile(
    '|'.join(map(re.escape, _LETTERS))
    + "|(?i:[aeiou][`^~_]|[aeiouy]'|[aeiouy]:(?=\\w)|n~|[cghjswy]\\^|[au]&|c,(?=[aou])"
    # but not in l'amour, c'est, don't and not before the comma of a sentence
    "|[cnszlr]'(?![aeiouht])|[st],(?=[a-z]))"
)


def is_aozora(text):
    """True if `text` ('\\n' line ends) has the header or the footer of Aozora Bunko."""
    return bool(_bodies(text.split('\n')))


def clean(text):
    """The running text (str) of works in Aozora Bunko's layout, one paragraph a line.

    Header, footer, headings, ruby, notes and blank lines go; notes on characters outside of
    Shift_JIS (外字) and accents become the characters that they describe, or 〓 where they
    name none. Lines end with '\\n'.
    """
    lines = text.split('\n')
    text = '\n\n'.join('\n'.join(lines[first:last]) for first, last in _bodies(lines))
    text = re.sub(r'《[^《》\n]*》|｜', '', text)
    text = re.sub(r'※［＃([^［］\n]*)］', _described_character, text)
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
    text = re.sub(r'〔([^〔〕\n]*)〕', _with_accents, text)
    text = text.replace('／″＼', '〴〵').replace('／＼', '〳〵')
    lines = ['', *text.split('\n'), '']
    return ''.join(
        line + '\n'
        for before, line, after in zip(lines, lines[1:], lines[2:])
        if line.strip() and not _is_bare_heading(before, line, after)
    )


def _bodies(lines):
    """[(first, last), ...] line numbers of the works, `last` excluded; [] for other layouts."""
    rules = [i for i, line in enumerate(lines) if _is_rule(line)]
    headers = [
        (rule, following + 1)
        for rule, following in zip(rules, rules[1:])
        if re.search('テキスト中に現れる記号|●[^\n]{0,200}ルビ', '\n'.join(lines[rule:following]))
    ]
    nineties = [i for i, line in enumerate(lines) if line.startswith('［表記について］')]
    if not headers and nineties and rules and nineties[0] < rules[0]:
        headers = [(nineties[0], rules[0] + 1)]  # one rule, below the notes
    if not headers:
        last = _body_end(lines, 0, len(lines))
        return [(0, last)] if any('青空文庫' in line for line in lines[last:]) else []
    limits = [top for top, _ in headers[1:]] + [len(lines)]
    return [(first, _body_end(lines, first, limit)) for (_, first), limit in zip(headers, limits)]


def _body_end(lines, first, limit):
    """The line number of what follows a body: the source of the text or notes at its end."""
    for i in range(first, limit):
        if lines[i].startswith('［＃本文終わり］') or _SOURCE_LINE.match(lines[i]):
            return i
        if _is_rule(lines[i]) and ''.join(lines[i + 1 : i + 2]).startswith(('●', '※', '底本')):
            return i
    return limit


def _is_rule(line):
    return re.fullmatch('-{20,}', line.strip()) is not None


def _without_heading(line):
    """A line without the heading that its note names; nothing is left where the two differ."""
    line = re.sub(r'([^［］]{1,100})［＃「\1」は(?:同行|窓)?[大中小]見出し］', '', line)
    return '' if re.search('は[大中小]見出し］', line) else line


def _is_bare_heading(before, line, after):
    """True for the number of a chapter without a note: indented, or alone between blank lines."""
    alone = line[0] in ' 　' or not before.strip() and not after.strip()
    return alone and _HEADING.fullmatch(line) is not None


def _described_character(match):
    """The character named by plane-row-cell of JIS X 0213 or by U+hex."""
    code = re.search(r'U\+([0-9A-Fa-f]{4,6})', match[1])
    if code:
        code_point = int(code[1], 16)
        valid = code_point < 0x110000 and not 0xD800 <= code_point < 0xE000
        return chr(code_point) if valid else '〓'
    code = re.search(r'(?<![0-9-])([12])-([0-9]{1,2})-([0-9]{1,2})(?![0-9-])', match[1])
    if not code:
        return '〓'
    plane, row, cell = map(int, code.groups())
    try:
        return (b'\x8f' * (plane - 1) + bytes([0xA0 + row, 0xA0 + cell])).decode('euc_jis_2004')
    except ValueError:  # no such cell, or an empty one
        return '〓'


def _with_accents(match):
    """The text in 〔〕 with its accents, without the brackets; as it stands if it has none."""

    def letter(accented):
        code = accented[0]
        composed = unicodedata.normalize('NFC', code[0] + code[1].translate(_MARKS))
        return _LETTERS.get(code) or composed

    inner, count = _ACCENTED.subn(letter, match[1])
    return inner if count else match[0]
