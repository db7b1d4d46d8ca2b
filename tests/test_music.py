"""music.py: tracks to words, words to tracks, sound and picture."""

import dataclasses
import io
import json
import re

import mido
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import music
import read_midi
import write_midi
from test_read_midi import END, dump, file


def song(*tracks, format=1, division=480):
    header = b'MThd' + bytes([0, 0, 0, 6, 0, format, 0, 0]) + division.to_bytes(2, 'big')
    return file(*(dump(track) + END for track in tracks), header=header)


def words_of(raw, track=0, events='notes'):
    return read_midi.to_words(read_midi.from_bytes(raw), track, events)


def read_back(words, setup=None, events='notes'):
    raw = write_midi.to_bytes(write_midi.to_data(words, setup))
    return read_midi.to_words(read_midi.from_bytes(raw, strict=True), 0, events)


# Tracks to words


def test_the_words_of_the_issue():
    assert words_of(song('00 90 40 50  81 00 90 40 50')) == ['00_90_4050', '8100_90_4050']
    assert words_of(song('80 00 9f 0a 7f  00 0a 00')) == [
        '00_9f_0a7f',
        '00_9f_0a00',
    ]  # shortest delta, running


def test_fact_13_the_time_of_what_is_left_out_is_not_lost():
    raw = song("""
        60 b0 40 7f       # pedal
        30 90 45 64
        10 c0 05          # program
        10 ff 01 01 41    # text
        10 e0 00 40       # bend
        10 a0 45 01       # key pressure
        10 d0 01          # channel pressure
        10 80 45 40
    """)
    assert words_of(raw) == ['8110_90_4564', '60_80_4540']
    assert words_of(raw, events='performance') == [
        '60_b0_407f',
        '30_90_4564',
        '10_c0_05',
        '20_e0_0040',
        '30_80_4540',
    ]


TWO = song(
    '00 ff 51 03 0a 2c 2a  00 ff 58 04 03 02 18 08  83 60 ff 51 03 07 a1 20',
    '00 c0 6b  00 90 45 64  83 60 80 45 40',
    '00 c9 00  83 60 99 24 7f  00 89 24 40  00 99 26 7f  00 89 26 40',
)


def test_all_tracks_in_the_order_of_time():
    assert words_of(TWO, 'all') == [
        '00_90_4564',
        '8360_80_4540',
        '00_99_247f',
        '00_89_2440',
        '00_99_267f',
        '00_89_2640',
    ]


def test_all_tracks_interleaved():
    raw = song(
        '10 90 45 64  20 80 45 40', '08 91 30 64  08 81 30 40  20 91 31 64', '30 c2 05  00 82 01 00'
    )
    assert words_of(raw, 'all') == [
        '08_91_3064',
        '08_90_4564',
        '00_81_3040',
        '20_80_4540',
        '00_91_3164',
        '00_82_0100',
    ]  # at one tick in the order of the tracks


def test_which_track():
    data = read_midi.from_bytes(TWO)
    assert [(part.track, part.notes) for part in read_midi.parts(data)] == [(1, 1), (2, 2)]
    assert (
        read_midi.choose_track(data) == 1  # 2 has more, but percussion
        and read_midi.choose_track(data, 1) == 1
        and read_midi.choose_track(data, 'all') == 'all'
    )
    for track, said in ((0, 'no notes in track 0'), (3, 'no track 3'), (-1, 'no track -1')):
        with pytest.raises(read_midi.MusicError, match=said):
            read_midi.choose_track(data, track)
    with pytest.raises(read_midi.MusicError, match='format 2'):
        read_midi.choose_track(
            read_midi.from_bytes(song('00 90 45 64', '00 90 45 64', format=2)), 'all'
        )
    with pytest.raises(read_midi.MusicError, match='no notes'):
        read_midi.choose_track(
            read_midi.from_bytes(song('00 90 45 00'))
        )  # fact 12: velocity 0 is no note


def test_a_rest_longer_than_a_file_can_hold():
    with pytest.raises(read_midi.MusicError, match='rest'):
        words_of(song('ff ff ff 7f b0 00 00  01 90 45 64'))


@pytest.mark.parametrize(
    'division, ticks',
    [
        ('01e0', 480),
        ('0001', 1),
        ('7fff', 32767),
        ('e728', -1000),  # 25 frames a second of 40 ticks
        ('e250', -2400),  # 30 frames a second of 80 ticks
        ('0000', 0),
        ('e700', 0),
    ],
)
def test_resolution(division, ticks):
    assert read_midi.resolution(division) == ticks


@pytest.mark.parametrize('division', [0, 0xE700])
def test_a_file_without_time(division):
    with pytest.raises(read_midi.MusicError, match='division is 0'):
        read_midi.setup_of(read_midi.from_bytes(song('00 90 45 64', division=division)), 0)


@pytest.mark.parametrize('division', [0xFF01, 0xFF02, 0xE728])
@pytest.mark.parametrize('notes', ['00 90 45 64  60 80 45 40', '00 90 45 64'])
@pytest.mark.parametrize('grid', [0, 12])
def test_ticks_of_a_second_can_be_learned(folder, division, notes, grid):
    (folder / 'slow.mid').write_bytes(song(notes, division=division))
    setup = music.read(['slow.mid'], grid=grid).setup
    assert read_midi.Setup.from_dict(dataclasses.asdict(setup)) == setup and setup.longest >= 1


def test_the_setup_has_the_first_programs():
    raw = song(
        '60 ff 51 03 00 00 01  00 c0 05  00 ff 51 03 00 00 02',
        '10 c0 0a  00 ff 51 80 03 00 00 03  00 90 45 64  00 80 45 40',
        '00 c0 0b  00 c1 0c  00 99 45 64  00 ff 58 04 06 03 24 08',
    )
    data = read_midi.from_bytes(raw)
    events = {
        'ff51': 'ff5103000003',
        'ff58': 'ff580406032408',
    }  # a length of two bytes is no hindrance
    assert read_midi.setup_of(data, 0).events == {**events, 'c0': 'c005'}  # its own program
    assert read_midi.setup_of(data, 1).events == {**events, 'c0': 'c00a'}
    assert read_midi.setup_of(data, 'all').events == {**events, 'c0': 'c00b', 'c1': 'c10c'}
    at_once = read_midi.from_bytes(song('00 c0 18  00 c0 05  00 c0 06  00 90 45 64'))
    assert read_midi.setup_of(at_once, 0).events == {'c0': 'c006'}  # the one that sounds
    no_own = read_midi.from_bytes(song('00 90 45 64', '40 c0 05', '30 c0 06'))
    assert read_midi.setup_of(no_own, 0).events == {'c0': 'c006'}
    other_pieces = read_midi.from_bytes(
        song('00 90 45 64', '00 c0 05  00 ff 51 03 00 00 01', format=2)
    )
    assert read_midi.setup_of(other_pieces, 0).events == {}


def test_fact_12_notes_are_counted():
    """A note-off before any note-on takes nothing away; two note-ons want two note-offs."""
    assert read_back(['00_80_4040', '00_90_4064'])[2:] == ['8360_80_4040']
    assert read_back(['00_90_4064', '00_90_4064', '00_90_4000'])[3:] == ['8360_80_4040']
    assert read_back(['00_90_4064', '00_90_4000']) == ['00_90_4064', '00_90_4000']


def test_fact_14_the_setup_travels():
    data = read_midi.from_bytes(TWO)
    setup = read_midi.setup_of(data, 1)
    assert setup == read_midi.Setup(
        '01e0', {'ff58': 'ff580403021808', 'ff51': 'ff51030a2c2a', 'c0': 'c06b'}
    )
    assert read_midi.Setup.from_dict(json.loads(json.dumps(dataclasses.asdict(setup)))) == setup
    assert read_midi.setup_of(data, 'all').events.keys() == {'ff58', 'ff51', 'c0', 'c9'}
    written = mido.MidiFile(
        file=io.BytesIO(write_midi.to_bytes(write_midi.to_data(words_of(TWO, 1), setup)))
    )
    assert written.ticks_per_beat == 480
    assert [(m.time, m.type) for m in written.tracks[0]] == [
        (0, 'time_signature'),
        (0, 'set_tempo'),
        (0, 'program_change'),
        (0, 'note_on'),
        (480, 'note_off'),
        (0, 'end_of_track'),
    ]
    assert written.tracks[0][1].tempo == 0x0A2C2A and written.tracks[0][2].program == 0x6B


# Many files


@pytest.fixture
def tunes(folder):
    (folder / 'set' / 'more').mkdir(parents=True)
    (folder / 'set' / 'b.mid').write_bytes(
        song('00 c0 01  00 90 45 64  81 00 80 45 40', division=128)
    )
    (folder / 'set' / 'a.MID').write_bytes(
        song('00 c0 02  00 90 40 64  83 60 80 40 40', division=480)
    )
    (folder / 'set' / 'more' / 'c.mid').write_bytes(
        song('00 c3 03  00 93 40 64  60 83 40 40', division=96)
    )
    (folder / 'set' / 'more' / 'd.mid').write_bytes(
        song('00 c3 03  00 93 40 64  60 83 40 40', division=0xE728)
    )
    (folder / 'set' / 'more' / 'empty.mid').write_bytes(song(''))
    (folder / 'set' / 'more' / 'broken.mid').write_bytes(b'MThd')
    (folder / 'set' / 'notes.txt').write_text('no music', encoding='utf-8')
    (folder / 'set' / '._a.mid').write_bytes(
        song('00 90 01 64  83 60 80 01 40', division=480)
    )  # as macOS leaves
    return folder / 'set'


def test_a_folder(tunes):
    collection = music.read([tunes])
    # one file each counts 480, 128, 96: then the finest
    assert collection.pieces == [
        ['00_90_4064', '8360_80_4040'],
        ['00_90_4564', '8360_80_4540'],
        ['00_93_4064', '8360_83_4040'],
    ]
    assert collection.setup == read_midi.Setup('01e0', {'c0': 'c002', 'c3': 'c303'}, 480)
    passed_over, *left_out, converted = remarks = collection.remarks
    assert 'passed over' in passed_over
    assert len(left_out) == 3 and all(remark.startswith('left out: ') for remark in left_out)
    assert converted.startswith('2 of 3 ')
    assert (
        'SMPTE' in ''.join(remarks)
        and 'no notes' in ''.join(remarks)
        and 'MThd' in ''.join(remarks)
    )


def test_files_by_name(tunes):
    collection = music.read([tunes / 'b.mid', tunes / 'a.MID', tunes / 'b.mid'])
    assert collection.pieces == [  # most count 128
        ['00_90_4564', '8100_80_4540'],
        ['00_90_4064', '8100_80_4040'],
        ['00_90_4564', '8100_80_4540'],
    ]
    assert collection.setup == read_midi.Setup('0080', {'c0': 'c001'}, 128)
    goes_on = music.read([tunes / 'a.MID'], setup=collection.setup)
    assert goes_on.pieces == [['00_90_4064', '8100_80_4040']]
    assert goes_on.setup.events == {'c0': 'c002'}  # its own; the other's would fill a gap
    remarks = music.read([tunes / 'b.mid']).remarks
    assert remarks == ["  track 0 '', channel 1: Bright Acoustic Piano, 1 note", 'learning track 0']
    for name in ('more/broken.mid', 'more/empty.mid', 'absent.mid', 'notes.txt'):
        with pytest.raises(read_midi.MusicError, match=name):
            music.read([tunes / 'a.MID', tunes / name])
    (tunes / 'none').mkdir()
    with pytest.raises(read_midi.MusicError, match='none'):
        music.read([tunes / 'none'])
    for name in ('a.MID', 'b.mid', 'more/c.mid', 'more/d.mid'):
        (tunes / name).unlink()
    with pytest.raises(read_midi.MusicError, match='no MIDI file in it can be used'):
        music.read(map(str, [tunes]))


def test_rescaling_rounds_times_and_not_distances():
    words = ['01_90_4564'] * 7  # at 1 to 7 of 3 ticks a quarter
    ticks = numpy.cumsum([int(word[:2], 16) for word in music.rescale(words, 3, 4)])
    assert ticks.tolist() == [round(tick * 4 / 3) for tick in range(1, 8)]


def test_a_damaged_file_is_used_and_said(folder):
    (folder / 'cut.mid').write_bytes(song('00 90 45 64  83 60 80 45 40')[:-3])
    collection = music.read(['cut.mid'])
    assert collection.pieces == [['00_90_4564', '8360_80_4540']]
    (remark,) = (remark for remark in collection.remarks if 'cut.mid' in remark)
    assert 'warnings: 2' in remark


# Transposing


def test_transpose():
    words = ['00_90_4564', '00_99_4564', '8360_80_4540', '00_b0_4500', '00_c0_45', '00_e0_0045']
    assert music.transpose(words, 2) == ['00_90_4764', '00_99_4564', '8360_80_4740', *words[3:]]
    assert music.transpose(words, 58)[0] == '00_90_7f64' and music.transpose(words, 59) == []
    assert music.transpose(words, -69)[0] == '00_90_0064' and music.transpose(words, -70) == []


def test_also_transposed():
    """By -1, 1 and 2 semitones, then as it is; key 126 cannot go up by 2."""
    words = [
        *['<eos>', '00_90_3c50', '60_80_3e40'],
        *['<eos>', '00_90_7e50'],
        *['<eos>', '00_90_4050'],
    ]
    assert music.also_transposed(words, -1, 2) == [
        *['<eos>', '00_90_3b50', '60_80_3d40', '<eos>', '00_90_7d50', '<eos>', '00_90_3f50'],
        *['<eos>', '00_90_3d50', '60_80_3f40', '<eos>', '00_90_7f50', '<eos>', '00_90_4150'],
        *['<eos>', '00_90_3e50', '60_80_4040', '<eos>', '00_90_4250'],
        *words,
    ]
    assert music.also_transposed(words, 2, -1) == music.also_transposed(words, -1, 2)
    assert music.also_transposed(words, 0, 0) == words


# Words to music


def variable_length():
    return st.one_of(st.integers(0, 300), st.integers(0, (1 << 28) - 1)).map(
        lambda n: bytes([*(0x80 | n >> s & 0x7F for s in (21, 14, 7) if n >> s), n & 0x7F]).hex()
    )


BYTE = st.one_of(st.integers(0, 127), st.sampled_from([0, 60, 127])).map('{:02x}'.format)
CHANNEL = st.one_of(st.sampled_from('0123456789abcdef'), st.just('0'))
EVENT = st.one_of(
    st.builds('{}{}_{}{}'.format, st.sampled_from('8899be'), CHANNEL, BYTE, BYTE),
    st.builds('c{}_{}'.format, CHANNEL, BYTE),
)
WORDS = st.lists(st.builds('{}_{}'.format, variable_length(), EVENT))


def still_sounding(words):
    """(channel, key) as often as they are held at the end, counted in text."""
    held = []
    for word in words:
        _, status, body = word.split('_')
        note = status[1], body[:2]
        if status[0] == '9' and body[2:] != '00':
            held.append(note)
        elif status[0] in '89' and note in held:
            held.remove(note)
    return held


@given(WORDS)
def test_any_legal_words_come_back(words):
    """The same list; only notes that nothing ended are ended after it."""
    again = read_back(words, events='performance')
    assert again[: len(words)] == words
    closing = again[len(words) :]
    assert sorted((word.split('_')[1][1], word.split('_')[2][:2]) for word in closing) == sorted(
        still_sounding(words)
    )
    assert all(word.split('_')[1][0] == '8' for word in closing)
    assert still_sounding(again) == []


@given(WORDS)
@settings(max_examples=50)
def test_any_legal_words_are_what_mido_reads(words):
    raw = write_midi.to_bytes(write_midi.to_data(words))
    (track,) = mido.MidiFile(file=io.BytesIO(raw)).tracks
    assert track[-1].type == 'end_of_track'
    for word, message in zip(words, track):
        delta, status, body = word.split('_')
        assert bytes(message.bytes()).hex() == status + body
        number = 0
        for byte in bytes.fromhex(delta):
            number = number * 128 + byte % 128
        assert message.time == number


def test_hanging_notes_end_a_quarter_later():
    words = ['00_90_4064', '00_90_4064', '10_91_4564', '10_80_4040']
    for division, delta in (
        ('0060', '60'),
        ('e728', '8374'),
    ):  # 96 a quarter; half a second of 1,000 ticks
        assert read_back(words, read_midi.Setup(division, {}))[4:] == [
            f'{delta}_80_4040',
            '00_81_4540',
        ]


def test_no_note_sounds_longer_than_the_longest():
    setup = read_midi.Setup('0060', {}, 0x40)
    words = ['10_90_4064', '20_90_4164', '20_80_4140', '00_90_4264', '30_80_4240', '20_80_4040']
    # 40 begins at 10 and is ended at 50; its own end at a0 has nothing left to do
    assert read_back(words, setup) == [
        '10_90_4064',
        '20_90_4164',
        '20_80_4140',
        '00_90_4264',
        '00_80_4040',
        '30_80_4240',
        '20_80_4040',
    ]
    assert read_back(['10_90_4064', '50_90_4264'], setup) == [
        '10_90_4064',
        '40_80_4040',
        '10_90_4264',
        '40_80_4240',
    ]
    assert read_back(
        ['00_90_4064', '10_90_4064', '20_80_4040', '7f_90_4164'], setup
    ) == [  # it ended the first
        '00_90_4064',
        '10_90_4064',
        '20_80_4040',
        '20_80_4040',
        '5f_90_4164',
        '40_80_4140',
    ]
    assert read_back(['00_90_4064', '60_80_4040'], read_midi.Setup('0060', {}, 0x60)) == [
        '00_90_4064',
        '60_80_4040',
    ]


def test_the_longest_note():
    assert (
        music.longest_note(['10_90_4064', '10_90_4164', '10_80_4040', '20_90_4100', '7f_90_4264'])
        == 0x30
    )
    assert music.longest_note(['00_90_4064', '10_90_4064', '10_80_4040', '20_80_4040']) == 0x30
    assert music.longest_note(['00_80_4064', '10_c0_40']) == 0


@pytest.mark.parametrize(
    'word',
    [
        '',
        '00',
        '00_90',
        '00_90_40',
        '00_90_405',
        '00_90_40505',
        '00_90_405050',
        '00_90_8050',
        '00_90_4080',
        '00_f0_4050',
        '00_ff_2f00',
        '00_70_4050',
        '00_a0_4050',
        '00_d0_40',
        '00_c0_4050',
        '8000_90_4050',
        '80_90_4050',
        '8180808000_90_4050',
        '00_90_40 50',
        '00-90-4050',
        '00_9A_4050',
        '00_9a_4F50',
        '0_90_4050',
        '00_90_4050\n',
        '<eos>',
        'ホームズ',
        '００_90_4050',
    ],
)
def test_an_impossible_word_is_named(word):
    with pytest.raises(read_midi.MusicError) as error:
        write_midi.to_data(['00_90_4050', word])
    assert not music.pitch_words([word]) and not read_midi.WORD.fullmatch(word)
    assert repr(word) in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize(
    'setup',
    [
        {'division': '0000', 'events': {}},
        {'division': '1e0', 'events': {}},
        {'division': 480, 'events': {}},
        {'division': '01e0'},
        {'events': {}},
        {'division': '01e0', 'events': {'ff51': 'ff5103000000'}},
        {'division': '01e0', 'events': {'ff51': 'ff510307a1'}},
        {'division': '01e0', 'events': {'c0': 'c080'}},
        {'division': '01e0', 'events': {'ff2f': 'ff2f00'}},
        {'division': '01e0', 'events': {'c0': 7}},
        {'division': '01e0', 'events': ['c005']},
        {'division': '01e0', 'events': None},
        {},
        [],
        {'division': '01e0e0', 'events': {}},
        {'division': 'e700', 'events': {}},
        {'division': '01 e', 'events': {}},
        {'division': '01e0', 'events': {}, 'tempo': 3},
        None,
        *(
            {'division': '01e0', 'events': {}, 'longest': longest}
            for longest in (0, -1, 1 << 28, 1.5, '40', True)
        ),
    ],
)
def test_an_impossible_setup(setup):
    with pytest.raises(read_midi.MusicError, match='impossible'):
        read_midi.Setup.from_dict(setup)


def test_real_music_comes_back(corpora):
    """Words of real tracks, written, read by mido: the same notes at the same ticks."""
    for collection in ('cheriell+ClassicalPianoMIDI-dataset', 'freedoom+freedoom', 'EasyRPG+RTP'):
        paths = sorted((corpora / 'midi' / collection).rglob('*.mid'))[::5]
        assert paths
        for path in paths:
            collection = music.read([path])
            (words,), setup = collection.pieces, collection.setup
            written = mido.MidiFile(
                file=io.BytesIO(write_midi.to_bytes(write_midi.to_data(words, setup)))
            )
            original = mido.MidiFile(path)
            assert written.ticks_per_beat == original.ticks_per_beat
            assert notes_of(written.tracks[0])[: len(words)] in map(notes_of, original.tracks), path


def notes_of(track):
    tick, notes = 0, []
    for message in track:
        tick += message.time
        if message.type in ('note_on', 'note_off'):
            notes.append((tick, *message.bytes()))
    return notes


# Words of a vocabulary

VOCABULARY = [
    '<eos>',
    '8360_90_3c50',
    '00_90_3c40',
    '00_90_3c00',
    '00_90_4264',
    '8360_80_3c40',
    '00_93_2440',
    '00_c0_05',
]


def test_pitch_words():
    assert music.pitch_words(VOCABULARY) == {
        0x24: '00_93_2440',
        0x3C: '00_90_3c40',
        0x42: '00_90_4264',
    }
    assert list(music.pitch_words(VOCABULARY)) == [0x24, 0x3C, 0x42]


@pytest.mark.parametrize(
    'name, key',
    [
        ('C4', 60),
        ('c4', 60),
        ('B#3', 60),
        ('F#4', 66),
        ('Gb4', 66),
        ('A4', 69),
        ('C-1', 0),
        ('G9', 127),
        ('H4', None),
        ('C', None),
        ('C99', None),
        ('C4 ', None),
        ('00_90_3c40', None),
    ],
)
def test_names_of_keys(name, key):
    assert music.pitch_key(name) == key


def test_names_and_keys_are_pretty_midis():
    import pretty_midi

    for key in range(128):
        assert music.pitch_name(key) == pretty_midi.note_number_to_name(key)
        assert music.pitch_key(music.pitch_name(key)) == key


@pytest.mark.parametrize(
    'word, near',
    [
        ('8100_90_3c50', '00_90_3c40'),
        ('8340_90_3c50', '8360_90_3c50'),
        ('00_90_4164', '00_90_4264'),
        ('00_80_3c40', '8360_80_3c40'),
        ('00_93_3c40', '00_93_2440'),
        ('00_83_3c40', '00_93_2440'),
        ('00_95_3c40', '00_90_3c40'),
    ],
)
def test_nearest_word(word, near):
    assert music.nearest_word(word, VOCABULARY) == near


# The piece of this project


def test_track1_is_what_its_script_makes(folder):
    from support.source import DATA

    script = (DATA / 'make_track1.py').read_text(encoding='utf-8')
    (folder / 'data').mkdir()
    code = compile(
        script.replace('(HERE.parent)', f'({str(DATA.parent)!r})'), 'make_track1.py', 'exec'
    )
    exec(code, {'__file__': str(folder / 'data' / 'make_track1.py'), '__name__': '__main__'})
    assert (folder / 'data' / 'track1.mid').read_bytes() == (DATA / 'track1.mid').read_bytes()
    tracks = mido.MidiFile(DATA / 'track1.mid').tracks
    notes = [sum(m.type == 'note_on' and m.velocity > 0 for m in track) for track in tracks]
    assert sum(notes) >= 1500 and sum(count > 0 for count in notes) >= 3
    assert re.search('さくらさくら', script)
