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

_BEGINNINGS = (  # of a file; what it is; what to do
    (rb'\{\\rtf', 'an RTF file', SAVE),
    (rb'.{0,1000}%PDF-\d', 'a PDF file', SAVE),
    (rb'(\xc5\xd0\xd3\xc6.{0,200})?%!PS', 'a PostScript file', SAVE),
    (rb'\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1', 'an old Office file (.doc, .xls, .ppt)', SAVE),
    (rb'.{60}(BOOKMOBI|TEXtREAd)|TPZ\d', 'a Kindle book', SAVE),
    (rb'bplist\d\d', 'a web archive of Safari', SAVE),
    (rb'MThd\0\0', 'a MIDI file', '--midi learns music'),
    (rb'\x1f\x8b', 'a gzip archive', UNPACK),
    (rb'BZh[1-9]1AY&SY', 'a bzip2 archive', UNPACK),
    (rb'\xfd7zXZ\0|\x28\xb5\x2f\xfd', 'an xz or zstd archive', UNPACK),
    (rb'7z\xbc\xaf\x27\x1c', 'a 7z archive', UNPACK),
    (rb'Rar!\x1a\x07', 'a RAR archive', UNPACK),
    (rb'..-l[hz][0-9ds]-', 'an LZH archive', UNPACK),
    (rb'.{257}ustar', 'a tar archive', UNPACK),
    (rb'PK(\x05\x06|\x07\x08)', 'an empty or split zip', UNPACK),
)
_MARKUP = (  # of a text, upper or lower case; what it is; what to do
    (
        r'(<\?xml[^>]*>|<!--((?!-->).){0,2000}-->|\s)*<(!doctype\s+html|'
        r'(html|head|body|meta|title|link|script|style|div|p|table|h[1-6]|center|font)[\s/>])',
        'a web page (HTML)',
        SAVE,
    ),
    (
        r'([\w-]+:[^\n]*\n([ \t][^\n]*\n)*)*mime-version:.{0,2000}?content-type:\s*'
        r'(multipart/|text/html)',
        'a saved web page or mail (MIME)',
        SAVE,
    ),
)
_PACKAGES = (  # a name in a zip, and what such a zip is
    ('[Content_Types].xml', 'an Office file (.docx, .xlsx, .pptx)'),
    ('META-INF/container.xml', 'an EPUB book'),
    ('META-INF/manifest.xml', 'an OpenDocument file (.odt)'),
    ('Index/Document.iwa', 'an Apple Pages file'),
    ('buildVersionHistory.plist', 'an Apple Pages file'),
)


def of_bytes(data):
    """What a file (bytes) is and what to do, a phrase (str), if it is no plain text; or None."""
    for pattern, what, advice in _BEGINNINGS:
        if re.match(pattern, data[:2000], re.DOTALL):
            return f'{what}, not plain text; {advice}'
    return None


def of_text(text):
    """What a text (str) is and what to do, a phrase (str), if it is a web page; or None."""
    for pattern, what, advice in _MARKUP:
        if re.match(pattern, text[:TEXT], re.DOTALL | re.IGNORECASE):
            return f'{what}, not plain text; {advice}'
    return None


def of_zip(names):
    """What a zip with such names (list of str) is and what to do, if it is a document; or None."""
    for mark, what in _PACKAGES:
        if mark in names:
            return f'{what}, not plain text; {SAVE}'
    return None
