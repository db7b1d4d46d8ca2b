"""support/formats.py: what is no plain text is refused, in a line that says what to do."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest

from support.source import CorpusError
from support.text import decode, read

PAGE = '<html><head><title>ホームズ</title></head><body>ホームズは言った。</body></html>\n'


def tar():
    """A tar archive (bytes) of a text."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode='w') as archive:
        archive.addfile(tarfile.TarInfo('a.txt'))
    return data.getvalue()


BINARY = {
    'RTF': b'{\\rtf1\\ansi\\ansicpg932 {\\fonttbl}\\f0 Holmes said nothing.}',
    'PDF': b'%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n',
    'PDF behind a header': b'HTTP/1.1 200 OK\r\n\r\n%PDF-1.7\n',
    'PostScript': b'%!PS-Adobe-3.0\n',
    'old Office': b'\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1' + bytes(600),
    'Kindle': b'Holmes'.ljust(60, b'\0') + b'BOOKMOBI',
    'Safari': b'bplist00\xd1\x01\x02',
    'MIDI': b'MThd\0\0\0\6\0\1\0\1\0\x60',
    'gzip': gzip.compress(b'Holmes'),
    'bzip2': bz2.compress(b'Holmes'),
    'xz': lzma.compress(b'Holmes'),
    '7z': b'7z\xbc\xaf\x27\x1c\0\4',
    'RAR': b'Rar!\x1a\x07\0',
    'LZH': b'\x21\x1b-lh5-\0\0',
    'tar': tar(),
    'empty or split zip': b'PK\5\6' + bytes(18),
}


@pytest.mark.parametrize('what', BINARY)
def test_files_of_other_programs_are_refused(what):
    with pytest.raises(CorpusError) as info:
        decode(BINARY[what], 'book.txt')
    message = str(info.value)
    assert message.startswith('book.txt: ') and message.count('\n') == 0
    assert what.split(' behind')[0] in message and 'not plain text; ' in message
    assert any(advice in message for advice in ('save it as plain', 'unpack it', '--midi'))


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'cp932', 'euc_jp', 'iso2022_jp'])
@pytest.mark.parametrize(
    'page',
    [
        PAGE,
        '<!DOCTYPE html>\n' + PAGE,
        '\n  <HTML lang="ja">\n<BODY>ホームズ</BODY>',
        '<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN">\n' + PAGE,
        '<!-- saved from url -->\n<!-- twice -->\n' + PAGE,
        '<meta charset="utf-8">\n<p>ホームズは言った。</p>',
        '<div class="main_text">ホームズは言った。<br />',
        'From: <Saved by Blink>\nSubject: ホームズ\nMIME-Version: 1.0\n'
        'Content-Type: multipart/related;\n\ttype="text/html"\n',
    ],
)
def test_web_pages_are_refused(page, encoding):
    with pytest.raises(CorpusError, match='a.txt: a (web|saved web) page .*save it as plain text'):
        decode(page.encode(encoding), 'a.txt')


@pytest.mark.parametrize(
    'text',
    [
        '<unk> said <unk>\n',
        '<s> ホームズ は 言っ た </s>\n',
        '＜html＞と書いた。\n',
        'He wrote <html> on the wall.\n',
        '<?xml version="1.0"?>\n<mediawiki>\n',
        '<<ホームズ>>\n',
        '{\\it Holmes}\n\\begin{document}\n',
        'MIME-Version: that is what he said of it.\n',
        'BZh is not a word; PK neither.\n',
        '%PDF files are books, he said.\n',
        '1 < 2, he said.\n',
        ' ' * 5000 + '\n' + '<!--' * 2000,
    ],
)
def test_texts_that_only_look_so_are_read(text):
    assert decode(text.encode(), 'a.txt') == text


PACKAGES = {
    'Office': ('[Content_Types].xml', 'word/document.xml'),
    'EPUB': ('mimetype', 'META-INF/container.xml', 'OEBPS/notes.txt'),
    'OpenDocument': ('mimetype', 'content.xml', 'META-INF/manifest.xml'),
    'Pages': ('Index/Document.iwa', 'preview.jpg'),
}


@pytest.mark.parametrize('what', PACKAGES)
def test_documents_that_are_zips_are_named(tmp_path, what):
    with zipfile.ZipFile(tmp_path / 'book', 'w') as archive:
        for name in PACKAGES[what]:
            archive.writestr(name, 'Holmes')
    with pytest.raises(CorpusError, match=f'book: an? .*{what}.*, not plain text; save it'):
        read(tmp_path / 'book')
