"""support/library.py: a folder of texts gives the ids that its texts give together."""

import json
import pathlib
import zipfile
import zlib

import numpy
import pytest

from support.library import Reading, encode_texts
from support.source import CorpusError
from support.text import choose_tokenizer, encode, make_vocabulary, tokenize


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
    (folder / 'library' / 'notes.md').write_text('not a text of it', encoding='utf-8')
    return ''.join(text if text.endswith('\n') else text + '\n' for text in texts.values())


def encode_folder(*sources, valid_text='', store='.', **options):
    """The Library of some sources, with the options of a Reading."""
    return encode_texts(sources, valid_text, store, Reading(**options))


def expected(text, level='word', **options):
    """(ids, vocabulary) of a text, in memory."""
    words = tokenize(text, choose_tokenizer(text, level))
    vocabulary = make_vocabulary(words, **options)
    return encode(words, vocabulary), vocabulary


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
    valid_text = '新しい猫\n'
    encoded = encode_folder('library', valid_text=valid_text, store='store', level=level, **options)
    all_ids, vocabulary = expected(library + valid_text, level, **options)
    assert isinstance(encoded.ids, numpy.memmap) and encoded.ids.tolist() == all_ids.tolist()
    assert encoded.vocabulary == vocabulary and encoded.checksum == zlib.crc32(all_ids.tobytes())
    assert encoded.tokenizer == {'word': 'mecab', 'char': 'char'}[level]
    assert encoded.n_valid == {'word': 3, 'char': 5}[level]
    assert [': '.join(text.split(': ')[:2]) for text in encoded.remarks] == [
        'library: passed over, as no .txt or .zip file',
        'left out: library/bad.txt',
        'left out: library/binary.txt',
    ]


def test_a_folder_that_is_worth_several_processes(folder):
    """Five megabytes, in the order of the names whichever is encoded first."""
    (folder / 'library').mkdir()
    random = numpy.random.RandomState(0)
    text = ''
    for n, size in enumerate((700000, 3, 300000)):
        part = ' '.join(random.randint(0, 5000, size).astype(str)) + '\n'
        (folder / 'library' / f'{n}.txt').write_text(part, encoding='utf-8')
        text += part
    (folder / 'library' / '3.txt').write_bytes(b'\xff\xfe\xfa')
    encoded = encode_folder('library', min_count=180)
    ids, vocabulary = expected(text, min_count=180)
    numpy.testing.assert_array_equal(encoded.ids, ids)
    assert encoded.vocabulary == vocabulary and 100 < len(vocabulary) < 5000
    assert ['3.txt' in remark for remark in encoded.remarks] == [True]


def files():
    """{name: number and time} of all .ids files in the current folder."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in pathlib.Path().glob('*.ids')
    }


def test_a_folder_is_encoded_once(library):
    first = encode_folder('library')
    before = files()
    again = encode_folder('library')
    assert files() == before and len(before) == 1
    assert again.ids.tolist() == first.ids.tolist()
    assert {**vars(again), 'ids': 0} == {**vars(first), 'ids': 0}


@pytest.mark.parametrize(
    'options',
    [
        {'level': 'char'},
        {'valid_text': 'x'},
        {'encoding': 'utf-8'},
        {'min_count': 2},
        {'vocab_size': 2},
    ],
)
def test_other_options_make_another_file(library, options):
    encode_folder('library')
    before = files()
    encode_folder('library', **options)
    assert len(files()) == 2 and before.items() <= files().items()


def test_other_texts_make_another_file(library):
    encode_folder('library')
    pathlib.Path('library/e.txt').write_text('鳥。\n', encoding='utf-8')
    assert encode_folder('library').ids.tolist() == expected(library + '鳥。\n')[0].tolist()
    pathlib.Path('library/e.txt').write_text('鳥と犬。\n', encoding='utf-8')
    assert encode_folder('library').ids.tolist() == expected(library + '鳥と犬。\n')[0].tolist()
    assert len(files()) == 3


@pytest.mark.parametrize(
    'damage',
    [
        {'checksum': 5},
        {'vocabulary': 5},
        {'vocabulary': [5]},
        {'n_valid': None},
        {'unheard of': 1},
        'a list',
        'nothing',
        'half',
        'ids of 0',
        'no ids',
    ],
)
def test_damaged_files_are_made_again(library, damage):
    encode_folder('library')
    (ids_path,) = pathlib.Path().glob('*.ids')
    notes_path = ids_path.with_suffix('.json')
    text = notes_path.read_text(encoding='utf-8')
    if isinstance(damage, dict):
        notes_path.write_text(json.dumps({**json.loads(text), **damage}), encoding='utf-8')
    elif 'ids' in damage:
        ids_path.write_bytes(bytes(len(ids_path.read_bytes())) if '0' in damage else b'')
    else:
        notes_path.write_text(
            {'a list': '[]', 'nothing': '{}', 'half': text[:50]}[damage], encoding='utf-8'
        )
    encoded = encode_folder('library')
    ids, vocabulary = expected(library)
    assert encoded.ids.tolist() == ids.tolist() and encoded.vocabulary == vocabulary


def test_no_text_of_a_folder_can_be_read(folder):
    (folder / 'library').mkdir()
    (folder / 'library' / 'bad.txt').write_bytes(b'\xff\xfe\xfa')
    with pytest.raises(CorpusError, match='bad.txt.*none of the 1 texts'):
        encode_folder('library')
    (folder / 'library' / 'bad.txt').write_text('\n \n', encoding='utf-8')
    with pytest.raises(CorpusError, match='no text'):
        encode_folder('library')
    assert not list(folder.glob('*.ids'))


def test_several_texts_zips_and_folders(library):
    """In the order in which they are named; a zip in a folder is read like its texts."""
    pathlib.Path('one.txt').write_text('馬が来た。\n', encoding='euc_jp')
    with zipfile.ZipFile('library/deep/c.zip', 'w') as archive:
        archive.writestr('x.txt', '牛も来た。\n'.encode('cp932'))
        archive.writestr('y.txt', b'\0')
    lines = library.splitlines(keepends=True)
    zipped = ''.join(lines[:4]) + '牛も来た。\n' + ''.join(lines[4:])
    encoded = encode_folder('one.txt', 'library')
    ids, vocabulary = expected('馬が来た。\n' + zipped)
    assert encoded.ids.tolist() == ids.tolist() and encoded.vocabulary == vocabulary
    assert any('c.zip/y.txt' in remark for remark in encoded.remarks)
    assert str(pathlib.Path('one.txt').resolve()) in encoded.files
    assert str(pathlib.Path('library/deep/c.zip').resolve()) in encoded.files
    again = encode_folder('one.txt', 'library')
    assert {**vars(again), 'ids': 0} == {**vars(encoded), 'ids': 0}


def test_a_text_that_is_named_itself_is_not_left_out(library):
    with pytest.raises(CorpusError, match='^library/bad.txt: '):
        encode_folder('library/a.txt', 'library/bad.txt')
    assert not list(pathlib.Path().glob('*.ids')) and not list(pathlib.Path().glob('.*.part'))


def test_bad_bytes_in_a_folder_are_counted(library):
    pathlib.Path('library/a.txt').write_bytes('猫は言った。'.encode() * 9 + b'\xff\xff')
    assert 'left out: library/a.txt' in ' '.join(encode_folder('library').remarks)
    remarks = encode_folder('library', errors='replace').remarks
    assert 'library/a.txt: bad bytes were read as \ufffd, 2 times' in remarks
