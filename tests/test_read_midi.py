"""read_midi.py and write_midi.py: the facts of the Standard MIDI File, byte by byte.

The dumps are annotated from the standard (MMA RP-001, RP-029 for RMID). Facts are
numbered; 12 to 14 are about music and stand in test_music.py.
"""

import os
import re
import subprocess
import sys
import tracemalloc

import mido
import pytest

import read_midi
import write_midi
from read_midi import MidiError, from_bytes
from write_midi import to_bytes
from conftest import posix


def dump(text):
    """bytes of a hex dump with notes behind #."""
    return bytes.fromhex(re.sub('#.*', '', text))


HEADER = dump("""
    4d 54 68 64  00 00 00 06    # MThd, 6 bytes
    00 00  00 01  01 e0         # format 0, 1 track, 480 ticks per quarter
""")
END = dump('00 ff 2f 00')


def file(*tracks, header=HEADER):
    """A file of tracks (bytes, without chunk header)."""
    header = header[:10] + len(tracks).to_bytes(2, 'big') + header[12:]
    return header + b''.join(b'MTrk' + len(track).to_bytes(4, 'big') + track for track in tracks)


def chunks(track, warned=()):
    """The events of one track; the file must come back as it was, with these warnings."""
    raw = file(track)
    data = from_bytes(raw)
    assert to_bytes(data) == raw
    assert [offset - 22 for _, offset, _ in data['warnings']] == list(warned)
    if warned:
        with pytest.raises(MidiError) as error:
            from_bytes(raw, strict=True)
        assert error.value.offset == warned[0] + 22
    else:
        assert from_bytes(raw, strict=True) == data
    return data['tracks'][0]['chunks']


def fields(chunk):
    return ' '.join(
        chunk[key].hex() or '-' for key in ('delta', 'status', 'meta', 'length', 'body')
    )


# The facts


@pytest.mark.parametrize(
    'quantity, value',
    [
        ('00', 0),
        ('40', 0x40),
        ('7f', 127),
        ('81 00', 128),
        ('c0 00', 0x2000),
        ('ff 7f', 16383),
        ('81 80 00', 16384),
        ('ff ff 7f', 0x1FFFFF),
        ('81 80 80 00', 0x200000),
        ('ff ff ff 7f', 268435455),
    ],
)
def test_fact_1_variable_length_quantities(quantity, value):
    quantity = bytes.fromhex(quantity)
    assert read_midi.vlq_value(quantity) == value
    assert read_midi.vlq(value) == quantity
    first, _ = chunks(quantity + dump('90 3c 40') + END)
    assert first['delta'] == quantity and first['body'] == b'\x3c\x40'


def test_fact_1_longer_than_needed_is_kept():
    first, _ = chunks(dump('80 80 05  90 3c 40') + END)
    assert first['delta'] == b'\x80\x80\x05' and read_midi.vlq_value(first['delta']) == 5


@pytest.mark.parametrize(
    'track, offset',
    [
        ('81 80 80 80 00  90 3c 40', 0),  # a delta time
        ('00 ff 01 80 80 80 80 01 41', 3),  # a length
        ('00 f0 ff ff ff ff 7f', 2),
    ],
)
def test_fact_1_five_bytes_are_none(track, offset):
    with pytest.raises(MidiError) as error:
        from_bytes(file(dump(track) + END), 'song.mid')
    assert (error.value.path, error.value.offset) == ('song.mid', 22 + offset)
    assert '4 bytes' in error.value.reason and str(error.value).startswith('song.mid: ')


@pytest.mark.parametrize('value', [-1, 1 << 28])
def test_fact_1_beyond_four_bytes(value):
    with pytest.raises(ValueError):
        read_midi.vlq(value)


def test_fact_2_other_chunks_and_a_longer_header():
    raw = dump("""
        4d 54 68 64  00 00 00 08    # MThd, 8 bytes: 2 more than today
        00 01  00 02  00 60  aa bb
        58 46 49 48  00 00 00 02    # XFIH, before, between and after the tracks
        01 02
        4d 54 72 6b  00 00 00 04    # MTrk
        00 ff 2f 00
        58 46 4b 4d  00 00 00 00    # XFKM, empty
        4d 54 72 6b  00 00 00 08
        00 c0 05                    # program 5
        00 ff 2f 00
        00                          # not counted in the standard: a byte after End of Track
        58 46 49 48  00 00 00 01
        03
    """)
    data = from_bytes(raw)
    assert data['header'] == raw[:14] and data['header_extra'] == b'\xaa\xbb'
    assert [len(track['chunks']) for track in data['tracks']] == [1, 2]
    assert [(alien['track'], alien['header'][:4], alien['body']) for alien in data['alien']] == [
        (0, b'XFIH', b'\1\2'),
        (1, b'XFKM', b''),
        (2, b'XFIH', b'\3'),
    ]
    assert data['tracks'][1]['header'] == dump('4d 54 72 6b 00 00 00 08')
    assert to_bytes(data) == raw


@pytest.mark.parametrize('announced', [0, 1, 5, 65535])
def test_fact_3_the_number_of_tracks_may_lie(announced):
    raw = file(END, END)
    raw = raw[:10] + announced.to_bytes(2, 'big') + raw[12:]
    data = from_bytes(raw)
    assert len(data['tracks']) == 2 and data['missing'] == announced - 2
    assert [(track, offset) for track, offset, _ in data['warnings']] == [(None, 10)]
    assert to_bytes(data) == raw


@pytest.mark.parametrize('division', ['0060', '7fff', 'e728', 'e250', '0000'])
def test_fact_4_division_stays_raw(division):
    raw = file(END, header=HEADER[:12] + bytes.fromhex(division))
    assert from_bytes(raw)['header'][12:].hex() == division
    assert to_bytes(from_bytes(raw)) == raw


def test_fact_5_one_or_two_data_bytes():
    track = (
        dump("""
        00 83 3c 40      # note off, channel 4
        00 93 3c 40      # note on
        00 a3 3c 10      # key pressure
        00 b3 40 7f      # controller 64, the pedal
        00 c3 05         # program: one byte
        00 d3 22         # channel pressure: one byte
        00 e3 00 40      # pitch bend, in the middle
    """)
        + END
    )
    assert [fields(chunk) for chunk in chunks(track)] == [
        '00 83 - - 3c40',
        '00 93 - - 3c40',
        '00 a3 - - 3c10',
        '00 b3 - - 407f',
        '00 c3 - - 05',
        '00 d3 - - 22',
        '00 e3 - - 0040',
        '00 ff 2f 00 -',
    ]


@pytest.mark.parametrize(
    'event', ['90 80 40', '90 3c 80', 'c0 80', 'd0 ff', 'e0 00 ff', 'f1 80', 'f2 00 90']
)
def test_fact_5_data_bytes_are_below_128(event):
    with pytest.raises(MidiError) as error:
        from_bytes(file(b'\0' + bytes.fromhex(event) + END))
    assert error.value.offset == 24 and 'over 7f' in error.value.reason


def test_fact_6_running_status():
    track = (
        dump("""
        00 90 3c 40      # note on
        60    3c 00      # running
        00    3e 40
        00 c0 05
        00    06         # running, one byte
    """)
        + END
    )
    events = chunks(track)
    assert [fields(chunk) for chunk in events] == [
        '00 90 - - 3c40',
        '60 90 - - 3c00',
        '00 90 - - 3e40',
        '00 c0 - - 05',
        '00 c0 - - 06',
        '00 ff 2f 00 -',
    ]
    assert [chunk['running'] for chunk in events] == [False, True, True, False, True, False]


def test_fact_6_none_in_force():
    for track in ('00 3c 40', '00 ff 01 01 41  00 3c 40'):
        with pytest.raises(MidiError) as error:
            from_bytes(file(dump(track) + END))
        assert '3c' in error.value.reason


@pytest.mark.parametrize('between', ['00 ff 01 02 41 42', '00 f0 03 7e 7f f7', '00 f7 01 fa'])
def test_fact_6_after_meta_and_sysex_it_is_read_but_noted(between):
    before, after = dump('00 95 3c 40'), dump('60 3c 00  00 3e 40') + END
    between = bytes.fromhex(between)
    events = chunks(before + between + after, [len(before + between) + 1])
    assert [fields(chunk) for chunk in events[2:4]] == ['60 95 - - 3c00', '00 95 - - 3e40']
    assert events[2]['running']


def test_fact_7_sysex_in_one_piece_in_packets_and_as_an_escape():
    track = (
        dump("""
        00 f0 05 7e 7f 09 01 f7    # GM on; the length does not count F0
        00 f0 03 43 12 00          # a first packet, without F7 at its end
        60 f7 02 43 12             # its continuation
        60 f7 02 00 f7             # the last
        00 f7 01 fa                # an escape: the real-time message Start
        00 f7 02 90 ff             # any bytes
    """)
        + END
    )
    assert [fields(chunk) for chunk in chunks(track)] == [
        '00 f0 - 05 7e7f0901f7',
        '00 f0 - 03 431200',
        '60 f7 - 02 4312',
        '60 f7 - 02 00f7',
        '00 f7 - 01 fa',
        '00 f7 - 02 90ff',
        '00 ff 2f 00 -',
    ]


@pytest.mark.parametrize(
    'message',
    ['f1 7f', 'f2 01 02', 'f3 05', 'f4', 'f5', 'f6', 'f8', 'f9', 'fa', 'fb', 'fc', 'fd', 'fe'],
)
def test_fact_8_bare_system_messages_are_noted(message):
    message = bytes.fromhex(message)
    event, note, _ = chunks(b'\x10' + message + dump('00 90 3c 40') + END, [1])
    assert fields(event) == f'10 {message[:1].hex()} - - {message[1:].hex() or "-"}'
    assert fields(note) == '00 90 - - 3c40'


def test_fact_9_meta_events_of_any_type_and_any_text():
    track = (
        dump('00 ff 03 06')
        + '主旋律'.encode('cp932')
        + dump("""
        00 ff 7f 03 00 00 41       # sequencer specific
        00 ff 60 81 00             # unknown type, 128 bytes
    """)
        + bytes(range(128, 256))
        + dump('00 ff 00 00')
        + END
    )
    events = chunks(track)
    assert events[0]['body'].decode('cp932') == '主旋律' and '主旋律' in read_midi.describe(
        events[0]
    )
    assert fields(events[1]) == '00 ff 7f 03 000041'
    assert (events[2]['meta'], events[2]['length']) == (b'\x60', b'\x81\0')
    assert events[2]['body'] == bytes(range(128, 256))
    assert fields(events[3]) == '00 ff 00 00 -'


def test_the_articles_example_of_a_chunk():
    chunk = chunks(dump('81 86 01  ff 01 05 01 02 03 04 05') + END)[0]
    assert {key: list(chunk[key]) for key in ('delta', 'status', 'meta', 'length', 'body')} == {
        'delta': [129, 134, 1],
        'status': [255],
        'meta': [1],
        'length': [5],
        'body': [1, 2, 3, 4, 5],
    }


def test_fact_10_end_of_track():
    events = chunks(dump('00 90 3c 40  87 40 ff 2f 00'))
    assert read_midi.vlq_value(events[-1]['delta']) == 960  # it counts
    assert len(chunks(dump('00 90 3c 40'), [4])) == 1  # missing
    raw = file(dump('00 ff 2f 00  00 90 3c 40'))
    track = from_bytes(raw)['tracks'][0]
    assert len(track['chunks']) == 1 and track['rest'] == dump('00 90 3c 40')
    chunks(dump('00 ff 2f 00  00 90 3c 40'), [4])


RMID = dump("""
    52 49 46 46  2c 00 00 00    # RIFF, 44 bytes follow, little-endian
    52 4d 49 44                 # RMID
    44 49 53 50  03 00 00 00    # DISP, 3 bytes
    01 02 03 00                 # and one that makes them even
    64 61 74 61  16 00 00 00    # data, 22 bytes
""")


def test_fact_11_rmid():
    raw = file(END)[:22] + END
    wrapped = RMID[:-4] + len(raw).to_bytes(4, 'little') + raw + b'LIST\4\0\0\0INFO'
    assert to_bytes(from_bytes(wrapped, strict=True)) == raw
    damaged = RMID[:-4] + len(raw).to_bytes(4, 'little') + raw[:-1] + b'\x80'
    with pytest.raises(MidiError) as error:  # offsets are those of the file on the disk
        from_bytes(damaged[:-4] + b'\0\x3c\x40\0')
    assert error.value.offset == len(RMID) + 23


def test_fact_11_macbinary():
    raw = file(END)
    mac = bytearray(128)
    mac[1:6] = b'\4song'
    mac[65:73] = b'MidiMIDE'
    mac[83:87] = len(raw).to_bytes(4, 'big')
    assert to_bytes(from_bytes(bytes(mac) + raw + bytes(102), strict=True)) == raw  # padded to 128
    mac[83:87] = bytes(4)  # a header that does not tell
    assert to_bytes(from_bytes(bytes(mac) + raw, strict=True)) == raw


# Damage


@pytest.mark.parametrize('cut', range(1, 18))
def test_a_file_cut_short_gives_the_events_before(cut):
    whole = file(dump('00 90 3c 40  60 3c 00  00 ff 01 02 41 42') + END)
    raw = whole[:-cut]
    data = from_bytes(raw)
    kept = sum(22 + end <= len(raw) for end in (4, 7, 13, 17))
    assert len(data['tracks'][0]['chunks']) == kept
    assert data['tracks'][0]['missing'] == cut
    assert data['warnings'][0][:2] == (0, 18)
    assert to_bytes(data) == raw
    with pytest.raises(MidiError):
        from_bytes(raw, strict=True)


def test_a_cut_track_does_not_hide_the_next():
    raw = file(dump('00 90 3c'), dump('00 c0 05') + END)
    data = from_bytes(raw)
    assert [len(track['chunks']) for track in data['tracks']] == [0, 2]
    assert data['warnings'] == [(0, 22, 'the track ends inside this event')]
    assert to_bytes(data) == raw


def test_stray_bytes():
    one, two = b'MTrk\0\0\0\4' + END, b'MTrk\0\0\0\7\0\xc0\5' + END
    raw = HEADER + one + b'\0\0\xff' * 5 + two + b'\0'
    data = from_bytes(raw)
    assert [len(track['chunks']) for track in data['tracks']] == [1, 2]
    assert data['alien'] == [{'track': 1, 'header': b'', 'body': b'\0\0\xff' * 5}]
    assert data['rest'] == b'\0'
    assert to_bytes(data) == raw


def test_a_header_that_is_too_short_and_chunks_that_are_none():
    raw = HEADER[:7] + b'\5' + HEADER[8:] + b'MTrk\0\0\0\4' + END
    data = from_bytes(raw)
    assert (
        data['warnings'][0][:2] == (None, 4) and len(data['tracks']) == 1 and to_bytes(data) == raw
    )
    for chunk in (b'XFIH\0\0\1\0', b'XF\0H\0\0\0\0', b'\xe9FIH\0\0\0\0'):  # too long, no names
        raw = HEADER + chunk + b'MTrk\0\0\0\4' + END
        data = from_bytes(raw)
        assert (
            data['alien'] == [{'track': 0, 'header': b'', 'body': chunk}]
            and len(data['tracks']) == 1
        )
        assert [(track, offset) for track, offset, _ in data['warnings']] == [(0, 14)]
        assert to_bytes(data) == raw


@pytest.mark.parametrize('length', ['ff ff ff ff', '7f ff ff ff', '00 01 00 00'])
def test_claimed_lengths_take_no_memory(length):
    raw = HEADER + b'MTrk' + bytes.fromhex(length) + b'\0\xff\1\xff\xff\xff\x7fA'
    data = from_bytes(raw)
    assert data['tracks'][0]['chunks'] == [] and to_bytes(data) == raw
    raw = HEADER[:4] + bytes.fromhex(length) + HEADER[8:]
    assert from_bytes(raw)['tracks'] == [] and to_bytes(from_bytes(raw)) == raw


@pytest.mark.parametrize(
    'event, most',
    [
        ('00 90 40 40', 85),
        ('00 40 40', 110),
        ('00 40', 145),
        ('00 f6', 245),
        ('00 ff 01 00', 80),
        ('00 f0 00', 100),
    ],
)
def test_memory_is_a_multiple_of_the_file(event, most):
    """The documented figures: 80 times the file for notes, 240 for bare system messages."""
    raw = file(
        dump('00 c0 00') + dump(event) * 50000
        if event == '00 40'
        else dump('00 90 40 40') + dump(event) * 50000
    )
    tracemalloc.start()
    from_bytes(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most * len(raw)


@pytest.mark.parametrize(
    'raw',
    [
        b'',
        b'MTh',
        b'MThd',
        HEADER[:13],
        b'not a midi file',
        b'RIFF',
        b'RIFF\0\0\0\0RMID',
        RMID + b'text',
        '緋のエチュード'.encode(),
        b'<!DOCTYPE html>\n<html>',
        b'Rar!\x1a\7\1\0' + bytes(200),
        bytes(500),
        b'\0' * 128 + b'MThd',
    ],
)
def test_what_is_no_midi_file(raw, tmp_path):
    (tmp_path / 'x.mid').write_bytes(raw)
    with pytest.raises(MidiError) as error:
        read_midi.read_midi(tmp_path / 'x.mid')
    assert 'MThd' in error.value.reason and '\n' not in str(error.value)


@posix
@pytest.mark.parametrize('name', ['absent.mid', '.', 'a\0b', '/dev/null'])
def test_what_cannot_be_opened(name, folder):
    with pytest.raises(MidiError) as error:
        read_midi.read_midi(name)
    assert error.value.offset is None and '\n' not in str(error.value)


def test_every_cut_and_every_flipped_bit_of_a_small_file():
    raw = (
        file(
            dump('00 90 3c 40  60 3c 00  00 f0 02 7e f7  00 ff 51 03 07 a1 20') + END,
            dump('81 00 c1 05  00 e1 00 40') + END,
        )
        + b'XFIH\0\0\0\1\7'
    )
    inputs = [raw[:n] for n in range(len(raw))]
    for n in range(len(raw)):
        for bit in range(8):
            inputs.append(raw[:n] + bytes([raw[n] ^ 1 << bit]) + raw[n + 1 :])
    for changed in inputs:
        try:
            data = from_bytes(changed)
        except MidiError:
            continue
        assert to_bytes(data) == changed


# Writing


def test_an_edited_file_gets_the_right_lengths(tmp_path):
    data = from_bytes(file(dump('00 90 3c 40  60 3c 00') + END))
    del data['tracks'][0]['chunks'][1]
    data['tracks'].append(
        {'chunks': [dict(delta=b'\0', status=b'\xff', meta=b'\x2f', length=b'\0', body=b'')]}
    )
    write_midi.write_midi(data, tmp_path / 'out.mid')
    assert (tmp_path / 'out.mid').read_bytes() == file(dump('00 90 3c 40') + END, END)


def test_edited_events_get_the_right_lengths():
    data = from_bytes(file(dump('00 ff 01 01 41  00 f0 80 02 01 f7') + END))
    text, sysex, _ = data['tracks'][0]['chunks']
    text['body'], sysex['body'] = bytes(200), b'\x7e\xf7\xf7'
    assert to_bytes(data) == file(
        dump('00 ff 01 81 48') + bytes(200) + dump('00 f0 03 7e f7 f7') + END
    )


def test_running_status_is_written_only_where_it_means_the_same():
    data = from_bytes(
        file(dump('00 90 3c 40  10 3c 00  00 c0 05  00 06  00 90 3d 40  10 3d 00') + END)
    )
    del data['tracks'][0]['chunks'][4]
    assert to_bytes(data) == file(dump('00 90 3c 40  10 3c 00  00 c0 05  00 06  10 90 3d 00') + END)


def test_many_chunks_take_their_time_and_not_its_square():
    """1 MB of empty chunks in turn; a quadratic writer would take minutes."""
    raw = HEADER + b'MTrk\0\0\0\0XFIH\0\0\0\0' * 65536
    assert to_bytes(from_bytes(raw)) == raw


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    (tmp_path / 'out.mid').write_bytes(b'old')
    with pytest.raises(KeyError):
        write_midi.write_midi({'header': HEADER}, tmp_path / 'out.mid')
    assert (tmp_path / 'out.mid').read_bytes() == b'old'
    with pytest.raises(OSError):
        write_midi.write_midi(from_bytes(file(END)), tmp_path / 'absent' / 'out.mid')


# Real files


def midi_files(corpora):
    return sorted((corpora / 'midi').rglob('*.mid'))


def test_real_files_are_written_back_byte_for_byte(corpora):
    """All that is read, damaged or not; what is not read, no structure can be told of."""
    unread = []
    for path in midi_files(corpora):
        try:
            data = read_midi.read_midi(path)
        except MidiError:
            unread.append(path.name)
            continue
        assert to_bytes(data) == path.read_bytes(), path
    assert sorted(unread) == [
        'MIDIBadHeaderChunk.mid',
        'reference-01.mid',
        'reference.mid',
        'reference.mid',
        'test-empty-file.mid',
        'test-not-a-midi-file.mid',
    ]


def test_real_files_have_the_events_that_mido_reads(corpora):
    compared = 0
    for path in midi_files(corpora):
        try:
            tracks = mido.MidiFile(path).tracks
        except (OSError, EOFError, ValueError, KeyError, IndexError):
            continue
        data = read_midi.read_midi(path)
        assert len(data['tracks']) == len(tracks), path
        for track, expected in zip(data['tracks'], tracks):
            assert len(track['chunks']) == len(expected), path
            for chunk, message in zip(track['chunks'], expected):
                assert read_midi.vlq_value(chunk['delta']) == message.time, path
                if message.type == 'sysex':  # mido drops F0 and F7
                    assert chunk['status'] in (b'\xf0', b'\xf7')
                    body = chunk['body'].removeprefix(b'\xf0').removesuffix(b'\xf7')
                    assert body == bytes(message.data), path
                else:
                    raw = chunk['status'] + chunk['meta'] + chunk['length'] + chunk['body']
                    assert raw == bytes(message.bytes()), path
        compared += 1
    assert compared == 833


# The commands


def run(program, *args, **options):
    return subprocess.run(
        [sys.executable, program.__file__, *args],
        capture_output=True,
        text=True,
        encoding='utf-8',
        **options,
    )


SONG = file(
    dump('00 ff 51 03 07 a1 20') + END,
    dump('00 ff 03 04')
    + '琴'.encode('cp932')
    + b'12'
    + dump('00 c0 6b  83 60 90 45 64  83 60 45 00')
    + END,
    header=HEADER[:9] + b'\1' + HEADER[10:12] + b'\0\x60',
)


def test_the_table_and_the_words(folder):
    (folder / 'song.mid').write_bytes(SONG)
    table = run(read_midi, 'song.mid')
    assert (table.returncode, table.stderr) == (0, '')
    assert re.search(r'^ +0 +0 +00 +tempo: 120 quarters per minute$', table.stdout, re.M)
    assert re.search(r'^ +1 +960 +8360 +note on, channel 1: 69 0$', table.stdout, re.M)
    assert '琴' in table.stdout
    words = run(read_midi, 'song.mid', '--words')
    assert words.stdout.split() == ['8360_90_4564', '8360_90_4500']
    again = run(write_midi, '-', 'out.mid', '--like', 'song.mid', input=words.stdout)
    assert (again.returncode, again.stderr) == (0, '')
    assert (folder / 'out.mid').read_bytes() == file(
        dump('00 ff 51 03 07 a1 20  00 c0 6b  83 60 90 45 64  83 60 90 45 00') + END,
        header=HEADER[:12] + b'\0\x60',
    )


def test_what_the_table_says_of_each_kind():
    track = (
        dump("""
        00 ff 58 04 06 03 24 08   00 ff 03 06""")
        + '主旋律'.encode('cp932')
        + dump('00 ff 05 03')
        + 'あ'.encode()
        + dump("""
        00 ff 60 02 01 ff    00 f0 02 7e f7    00 e5 00 40    00 c9 05   00 ff 51 03 00 00 00""")
        + END
    )
    assert [read_midi.describe(chunk) for chunk in chunks(track)] == [
        'time signature: 6/8',
        'name: 主旋律',
        'lyric: あ',
        'meta 60: 01 ff',
        'system f0: 7e f7',
        'pitch bend, channel 6: 0 64',
        'program, channel 10: 5',
        'tempo: 00 00 00',
        'end of track',
    ]


def test_warnings_go_to_stderr_and_strict_makes_them_errors(folder):
    (folder / 'cut.mid').write_bytes(SONG[:-2])
    lenient, strict = run(read_midi, 'cut.mid'), run(read_midi, 'cut.mid', '--strict')
    assert (
        lenient.returncode == 0 and 'note on' in lenient.stdout and lenient.stderr.count('\n') == 2
    )
    assert strict.returncode == 1 and strict.stdout == '' and strict.stderr.count('\n') == 1


def test_words_from_powershell_and_an_older_file(folder):
    (folder / 'words.txt').write_text('00_90_4564\n60_80_4540\n', encoding='utf-16')
    assert run(write_midi, 'words.txt', 'out.mid').returncode == 0
    assert 'out.mid: written in place of' in run(write_midi, 'words.txt', 'out.mid').stderr
    assert run(read_midi, 'out.mid', '--words').stdout.split() == ['00_90_4564', '60_80_4540']


@pytest.mark.skipif(sys.platform == 'win32', reason='there is no /dev/stdout')
def test_a_pipe_is_written_to_as_it_is(folder):
    done = subprocess.run(
        [sys.executable, write_midi.__file__, '-', '/dev/stdout'],
        input=b'00_90_4564 60_80_4540',
        capture_output=True,
    )
    assert done.stdout.startswith(b'MThd') and done.returncode == 0, done.stderr


def test_commands_fail_in_one_line(folder):
    (folder / 'song.mid').write_bytes(SONG)
    (folder / 'words.txt').write_text('00_90_4564 00_90_4580', encoding='utf-8')
    (folder / 'empty.txt').write_text('\n', encoding='utf-8')
    for program, args, said in [
        (read_midi, ['absent.mid'], 'absent.mid'),
        (read_midi, ['song.mid', '--words', '--track', '2'], 'no track 2'),
        (read_midi, ['song.mid', '--words', '--track', '0'], 'no notes'),
        (read_midi, ['song.mid', '--track', '2'], 'no track 2'),
        (write_midi, ['words.txt', 'out.mid'], '00_90_4580'),
        (write_midi, ['absent.txt', 'out.mid'], 'absent.txt'),
        (write_midi, ['empty.txt', 'out.mid'], 'empty.txt'),
        (write_midi, ['song.mid', 'out.mid'], "song.mid: word 1: 'MThd"),
        (write_midi, ['words.txt', 'out.mid', '--like', 'words.txt'], 'MThd'),
    ]:
        done = run(program, *args)
        assert done.returncode == 1 and said in done.stderr, done.stderr
        assert done.stderr.count('\n') == 1 and done.stdout == ''
    assert not (folder / 'out.mid').exists()


def test_what_is_read_is_not_written_over(folder):
    (folder / 'song.mid').write_bytes(SONG)
    (folder / 'words.txt').write_text('00_90_4564', encoding='utf-8')
    os.link('words.txt', 'link')
    for out, options in (('words.txt', []), ('link', []), ('song.mid', ['--like', 'song.mid'])):
        done = run(write_midi, 'words.txt', out, *options)
        assert done.returncode == 2 and f'{out} is read here' in done.stderr
    assert (folder / 'song.mid').read_bytes() == SONG
    assert (folder / 'words.txt').read_text(encoding='utf-8') == '00_90_4564'
