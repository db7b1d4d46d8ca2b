"""support/source.py: files, folders, zips and addresses."""

import contextlib
import http.server
import io
import os
import pathlib
import threading
import tracemalloc
import zipfile

import pytest

from support.source import DATA, CorpusError, documents, download, expanded, files_in, find
from support.source import is_folder, name_of, passed_over
from conftest import posix


def contents(source, *endings):
    """The documents (list of bytes) in a source, texts if no endings are given."""
    return [data for _, data in documents(source, endings or ('.txt',))]


def test_bare_names_are_looked_up_in_data(folder):
    assert pathlib.Path(find('holmes.txt')) == DATA / 'holmes.txt'
    (folder / 'holmes.txt').write_text('mine', encoding='utf-8')
    assert contents('holmes.txt') == [b'mine']
    with pytest.raises(CorpusError, match='empty'):
        find('')
    for name in ('nothing.txt', './holmes2.txt', 'data/../holmes2.txt'):
        with pytest.raises(CorpusError, match='no such file or folder'):
            find(name)


def test_names_like_a_mistyped_one_are_offered(folder):
    (folder / 'ワトスン.txt').write_text('mine', encoding='utf-8')
    (folder / 'texts').mkdir()
    (folder / 'texts' / 'Watson.txt').write_text('mine', encoding='utf-8')
    for name, offer in (
        ('holms.txt', 'did you mean holmes.txt?'),
        ('ワトソン.txt', 'did you mean ワトスン.txt?'),
        ('texts/watsen.txt', 'did you mean Watson.txt?'),
        ('text', 'did you mean texts?'),
    ):
        with pytest.raises(CorpusError) as caught:
            find(name)
        assert str(caught.value).endswith(offer)
    with pytest.raises(CorpusError) as caught:
        find('texts/holms.txt')
    assert 'did you mean' not in str(caught.value)


def test_an_address_without_a_server():
    with pytest.raises(CorpusError, match='is the address right, and is there a network?'):
        contents('http://127.0.0.1:9/a.txt')


def test_patterns_that_the_shell_has_left(folder):
    for name in ('b.mid', 'a.mid', 'a.txt', '[c].mid'):
        (folder / name).write_bytes(b'')
    assert expanded(['*.mid', 'a.txt']) == ['[c].mid', 'a.mid', 'b.mid', 'a.txt']
    kept = ['[c].mid', 'x*.mid', 'http://localhost/?.mid']
    assert expanded(kept) == kept


@pytest.mark.parametrize(
    'source, name',
    [
        ('緋のエチュード.txt', '緋のエチュード'),
        ('texts/con.txt', 'con_'),
        ('NUL.tar.txt', 'NUL.tar_'),
        ('com1', 'com1_'),
        ('console.txt', 'console'),
        ('what?...txt', 'what_'),
        ('a:b<c>"d"|e*.txt', 'a_b_c__d__e_'),
        ('x' * 200 + '.txt', 'x' * 80),
        ('http://localhost/a:b.txt', 'a_b'),
        ('http://localhost/', 'localhost'),
    ],
)
def test_names_that_every_system_can_have(source, name):
    assert name_of(source) == name


def test_links_that_lead_nowhere(folder):
    (folder / 'gone.txt').symlink_to('nothing.txt')
    (folder / 'loop.txt').symlink_to('loop.txt')
    for name, target in (('gone', 'nothing'), ('loop', 'loop')):
        with pytest.raises(CorpusError, match=f'{name}.txt is a link to {target}.txt, which'):
            find(f'{name}.txt')
    assert name_of('loop.txt') == 'loop'


def test_folder_in_the_order_of_names(folder):
    (folder / 'deep').mkdir()
    for name in ('b.txt', 'a.TXT', 'deep/c.txt', 'deep/d.mid', 'e.midi', 'no.md'):
        (folder / name).write_text(name, encoding='utf-8')
    (folder / '._a.txt').write_bytes(b'\0')
    (folder / 'folder.txt').mkdir()
    assert contents(folder) == [b'a.TXT', b'b.txt', b'deep/c.txt']
    assert contents(folder, '.mid', '.midi') == [b'deep/d.mid', b'e.midi']
    (folder / 'empty').mkdir()
    with pytest.raises(CorpusError, match='no .mid or .midi file in this folder'):
        contents(folder / 'empty', '.mid', '.midi')
    assert is_folder(folder) and not is_folder(folder / 'b.txt')


def test_a_folder_reads_its_zips_and_leaves_out_what_is_hidden(folder):
    for name in ('.ipynb_checkpoints', '__MACOSX', '.git', 'deep/.hidden', 'deep/x__MACOSX'):
        (folder / 'library' / name).mkdir(parents=True)
        (folder / 'library' / name / 'a-checkpoint.txt').write_text(name, encoding='utf-8')
    for name in ('.hidden.txt', '._b.txt', 'b.txt'):
        (folder / 'library' / name).write_text(name, encoding='utf-8')
    with zipfile.ZipFile('library/c.ZIP', 'w') as archive:
        for name in ('./z.txt', '__MACOSX/._z.txt', 'deep/._y.txt', '.x/y.txt'):
            archive.writestr(name, name)
    assert contents('library') == [b'b.txt', b'./z.txt', b'deep/x__MACOSX']


def test_what_a_folder_passes_over_is_named(folder):
    (folder / 'library').mkdir()
    for name in ('a.docx', 'b.pdf', 'c.html', 'd.epub', '.DS_Store'):
        (folder / 'library' / name).write_text('', encoding='utf-8')
    with pytest.raises(CorpusError, match='no .txt file .*: a.docx, b.pdf, c.html and 1 more'):
        contents('library')
    (folder / 'library' / 'e.txt').write_text('', encoding='utf-8')
    paths, others = files_in('library', ('.txt',))
    assert [path.name for path in paths] == ['e.txt']
    (line,) = passed_over('library', others, ('.txt',))
    assert line == 'library: passed over, as no .txt file: a.docx, b.pdf, c.html and 1 more'
    assert passed_over('library', others[:1], ('.txt',)) == [
        'library: passed over, as no .txt file: a.docx'
    ]
    assert passed_over('library', [], ('.txt',)) == []


@pytest.mark.skipif(os.name == 'nt', reason='links want a right there')
def test_links_of_a_folder_are_read_or_named(folder):
    """A link to a text is that text; one to a folder may lead in a circle, one to nothing."""
    for name in ('library', 'elsewhere'):
        (folder / name).mkdir()
    (folder / 'elsewhere' / 'a.txt').write_text('a', encoding='utf-8')
    for name, target in (('text.txt', '../elsewhere/a.txt'), ('gone.txt', 'nothing'), ('up', '..')):
        (folder / 'library' / name).symlink_to(target)
    paths, others = files_in('library', ('.txt',))
    assert [[path.name for path in found] for found in (paths, others)] == [
        ['text.txt'],
        ['gone.txt', 'up'],
    ]


def test_a_folder_that_cannot_be_read_says_why(folder):
    """As where its owner has forbidden it, which does not hold for root."""
    with pytest.raises(CorpusError, match='^library: No such file or directory$'):
        files_in('library', ('.txt',))


def test_a_file_may_have_any_ending(folder):
    (folder / 'no.md').write_bytes(b'a\0')
    assert list(documents('no.md', ('.txt',))) == [('no.md', b'a\0')]


def zipped(**members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace('__', '.'), text)
    return data.getvalue()


def test_zip(folder):
    members = {
        'b__txt': 'ふた\n'.encode('cp932'),
        'a__TXT': b'1',
        'fig__png': b'\0',
        'c__mid': b'M',
    }
    (folder / 'a.zip').write_bytes(zipped(**members))
    assert contents('a.zip') == [b'1', 'ふた\n'.encode('cp932')]
    assert list(documents('a.zip', ('.mid',))) == [('a.zip/c.mid', b'M')]
    with pytest.raises(CorpusError, match='no .gif file in this zip'):
        contents('a.zip', '.gif')


def test_zip_bombs_are_refused(folder):
    """Two times 33 MiB are more than the 64 that are allowed."""
    (folder / 'a.zip').write_bytes(zipped(a__txt=bytes(33 << 20), b__txt=bytes(33 << 20)))
    with pytest.raises(CorpusError, match='64 MiB unpacked'):
        contents('a.zip')
    assert len(contents('a.zip', 'a.txt')[0]) == 33 << 20


def test_a_zip_that_lies_of_its_size_takes_no_memory(folder):
    """100 MB of zeros in 100 kB, declared as 600 bytes."""
    data = bytearray(zipped(a__txt='a' * 600, b__txt=bytes(100_000_000)))
    for name in (b'a.txt', b'b.txt'):
        entry = data.rindex(name) - 46
        data[entry + 24 : entry + 28] = (600).to_bytes(4, 'little')
    (folder / 'a.zip').write_bytes(data)
    tracemalloc.start()
    with pytest.raises(CorpusError, match='damaged zip'):
        contents('a.zip')
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
        contents('a.zip')


def test_names_with_dots_are_no_trick(folder):
    (folder / 'a.zip').write_bytes(zipped(**{'x..y/..a.txt': 'a', 'b...txt': 'b'}))
    assert contents('a.zip') == [b'b', b'a']


@pytest.mark.parametrize('method', [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_whose_unpacking_has_no_bound_are_refused(folder, method):
    with zipfile.ZipFile('a.zip', 'w', method) as archive:
        archive.writestr('a.txt', 'a' * 600)
    with pytest.raises(CorpusError, match='unusual'):
        contents('a.zip')


@posix
def test_devices_are_refused():
    with pytest.raises(CorpusError, match='device'):
        contents('/dev/zero')


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
            elif self.path == '/large':  # of no length that it tells, as long as somebody reads
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    while not stopped.is_set():
                        self.wfile.write(bytes(1 << 20))
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


def test_address(server):
    assert contents(f'{server}/a.zip') == ['ホームズ'.encode('cp932')]
    assert contents(f'{server}/to?/a.txt') == [b'Holmes']
    assert name_of(f'{server}/files/55881_ruby_50043.zip?x=y') == '55881_ruby_50043'
    for path, message in (
        ('/card.html', 'web page'),
        ('/none', '404'),
        ('/large', 'more than 64 MiB'),
        ('/to?ftp://127.0.0.1/a.txt', 'only http'),
        ('/to?file:///etc/hostname', 'not allowed'),
    ):
        with pytest.raises(CorpusError, match=message):
            contents(server + path)
    assert not is_folder(server)


def test_an_answer_without_end(server):
    with pytest.raises(CorpusError, match='not all there after 0.2 seconds'):
        download(f'{server}/drip', seconds=0.2)


def test_what_comes_with_a_redirect_is_not_read(server):
    """It has no end here; before, all of it was read."""
    assert contents(f'{server}/flood') == [b'Holmes']


def test_an_answer_that_ends_too_early(server):
    with pytest.raises(CorpusError, match='ends 90 bytes before'):
        contents(f'{server}/short')


def test_redirects_that_go_round(server):
    with pytest.raises(CorpusError, match='redirect|infinite loop'):
        contents(f'{server}/round')


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
        contents(address)
