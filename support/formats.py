"""What is no plain text, told by its first bytes, and what to do about it.

People give a book as their word processor or browser has saved it. Its letters would be read,
but with them the marks of the format, or only those. So it is refused: in one line, with the way
to plain text. Recognised are RTF, PDF and PostScript, web pages (HTML, also without a head, and
saved as MIME or as a web archive), Office, OpenDocument, Pages and EPUB files, Kindle books, MIDI
files, and archives other than .zip.

Not handled, on purpose: XML, LaTeX, Markdown, JSON and programs are plain text that somebody may
want to learn, with --level char for instance; a web page whose first tag comes after text; a
format that is not in this list, unless it has a byte 0, as most have (text.decode).
"""

import re

TEXT = 6000  # characters that tell a web page
SAVE = 'save it as plain text (.txt, UTF-8)'
UNPACK = 'unpack it and give the text'

_FORMATS = (  # what begins so: a file, a text or a name in a zip; what it is; what to do
    ('bytes', rb'\{\\rtf', 'an RTF file', SAVE),
    ('bytes', rb'.{0,1000}%PDF-\d', 'a PDF file', SAVE),
    ('bytes', rb'(\xc5\xd0\xd3\xc6.{0,200})?%!PS', 'a PostScript file', SAVE),
    ('bytes', rb'\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1', 'an old Office file (.doc, .xls, .ppt)', SAVE),
    ('bytes', rb'.{60}(BOOKMOBI|TEXtREAd)|TPZ\d', 'a Kindle book', SAVE),
    ('bytes', rb'bplist\d\d', 'a web archive of Safari', SAVE),
    ('bytes', rb'MThd\0\0', 'a MIDI file', '--midi learns music'),
    ('bytes', rb'\x1f\x8b', 'a gzip archive', UNPACK),
    ('bytes', rb'BZh[1-9]1AY&SY', 'a bzip2 archive', UNPACK),
    ('bytes', rb'\xfd7zXZ\0|\x28\xb5\x2f\xfd', 'an xz or zstd archive', UNPACK),
    ('bytes', rb'7z\xbc\xaf\x27\x1c', 'a 7z archive', UNPACK),
    ('bytes', rb'Rar!\x1a\x07', 'a RAR archive', UNPACK),
    ('bytes', rb'..-l[hz][0-9ds]-', 'an LZH archive', UNPACK),
    ('bytes', rb'.{257}ustar', 'a tar archive', UNPACK),
    ('bytes', rb'PK(\x05\x06|\x07\x08)', 'an empty or split zip', UNPACK),
    (
        'text',
        r'(?i)(<\?xml[^>]*>|<!--((?!-->).){0,2000}-->|\s)*<(!doctype\s+html|'
        r'(html|head|body|meta|title|link|script|style|div|p|table|h[1-6]|center|font)[\s/>])',
        'a web page (HTML)',
        SAVE,
    ),
    (
        'text',
        r'(?i)([\w-]+:[^\n]*\n([ \t][^\n]*\n)*)*mime-version:.{0,2000}?content-type:\s*'
        r'(multipart/|text/html)',
        'a saved web page or mail (MIME)',
        SAVE,
    ),
    ('name', r'\[Content_Types\]\.xml\Z', 'an Office file (.docx, .xlsx, .pptx)', SAVE),
    ('name', r'META-INF/container\.xml\Z', 'an EPUB book', SAVE),
    ('name', r'META-INF/manifest\.xml\Z', 'an OpenDocument file (.odt)', SAVE),
    ('name', r'(Index/Document\.iwa|buildVersionHistory\.plist)\Z', 'an Apple Pages file', SAVE),
)


def of_bytes(data):
    """What a file (bytes) is and what to do, a phrase (str), if it is no plain text; or None."""
    return _found('bytes', data[:2000])


def of_text(text):
    """What a text (str) is and what to do, a phrase (str), if it is a web page; or None."""
    return _found('text', text[:TEXT])


def of_zip(names):
    """What a zip with such names (list of str) is and what to do, if it is a document; or None."""
    return _found('name', *names)


def _found(where, *beginnings):
    for place, pattern, what, advice in _FORMATS:
        if place == where and any(re.match(pattern, data, re.DOTALL) for data in beginnings):
            return f'{what}, not plain text; {advice}'
    return None
