"""Music as people have it: what is chosen, told, kept of its time, and rounded."""

import http.server
import io
import re
import subprocess
import sys
import threading
import zipfile

import mido
import pytest

from support import checkpoint, music
import generate
import read_midi
import train
import write_midi
from conftest import TINY
from read_midi import MusicError, Setup, from_bytes
from support.describe import Part
from support.notes import notes_of
from test_music import read_back, song, words_of


def notes(channel, key, count, ticks=0x30):
    """Events (hex) of `count` notes of one key, each `ticks` long, channel from 0."""
    note = f'00 9{channel:x} {key:02x} 50  {ticks:02x} 8{channel:x} {key:02x} 40  '
    return note * count


def name(text):
    return f'00 ff 03 {len(text):02x} {text.encode().hex()}  '


# A pop song: the drums have most notes, then the guitar, whose second channel is a double.
POP = song(
    '00 ff 51 03 07 a1 20',
    name('Voice') + '00 c0 49  ' + notes(0, 0x48, 3),
    name('Guitar') + '00 c1 18  00 c2 1e  ' + notes(1, 0x40, 4) + notes(2, 0x40, 2),
    name('Beat') + notes(9, 0x24, 9),
)
# The same in one track.
BAND = song(
    '00 c0 49  00 c1 18  00 c2 1e  '
    + notes(9, 0x24, 9)
    + notes(0, 0x48, 3)
    + notes(1, 0x40, 4)
    + notes(2, 0x40, 2),
    format=0,
)
DRUMS = song(name('Beat') + notes(9, 0x24, 9) + notes(9, 0x26, 2))


# Choosing


def test_parts_are_told_with_names_instruments_channels_and_notes():
    assert [str(part) for part in read_midi.parts(from_bytes(POP))] == [
        "track 1 'Voice', channel 1: Flute, 3 notes",
        "track 2 'Guitar', channel 2: Acoustic Guitar (nylon), 4 notes",
        "track 2 'Guitar', channel 3: Distortion Guitar, 2 notes",
        "track 3 'Beat', channel 10: drums, 9 notes",
    ]
    assert [(part.track, part.channel) for part in read_midi.parts(from_bytes(BAND))] == [
        (0, 1),
        (0, 2),
        (0, 3),
        (0, 10),
    ]


def test_of_many_instruments_the_first_are_told():
    """General MIDI: the eighth is the clavinet, the ninth the celesta."""
    eight, nine, ten = (str(Part(1, '', 1, [*range(n)], 5)) for n in (8, 9, 10))
    assert eight.endswith(', Clavinet, 5 notes')
    assert nine.endswith(', Clavinet, 1 more, 5 notes')
    assert ten.endswith(', Clavinet, 2 more, 5 notes')


@pytest.mark.parametrize(
    'raw, track, channel, expected',
    [
        (POP, None, None, (2, 2)),  # not the drums
        (POP, 1, None, (1, 1)),
        (POP, 3, None, (3, 10)),  # asked for
        (POP, None, 10, (3, 10)),
        (POP, None, 1, (1, 1)),
        (POP, None, 3, (2, 3)),
        (POP, 'all', None, ('all', None)),
        (POP, 'all', 1, ('all', 1)),
        (BAND, None, None, (0, 2)),
        (BAND, 0, None, (0, 2)),
        (BAND, None, 1, (0, 1)),
        (BAND, 0, 10, (0, 10)),
        (DRUMS, None, None, (0, 10)),  # nothing else
    ],
)
def test_the_default_is_not_percussion(raw, track, channel, expected):
    data = from_bytes(raw)
    chosen = read_midi.choose_track(data, track, channel)
    assert (chosen, read_midi.choose_channel(data, chosen, channel)) == expected


def test_a_track_of_melody_and_drums_counts_its_melody():
    both = song(notes(0, 0x40, 3) + notes(9, 0x24, 50), notes(0, 0x40, 4))
    assert read_midi.choose_track(from_bytes(both)) == 1


@pytest.mark.parametrize('track, channel', [(1, 2), (None, 16), ('all', 16)])
def test_a_channel_without_notes(track, channel):
    with pytest.raises(MusicError, match=f'no notes in.* channel {channel}'):
        read_midi.choose_track(from_bytes(POP), track, channel)


def test_the_words_of_one_channel_keep_their_time():
    assert words_of(BAND) == read_midi.to_words(from_bytes(BAND), 'all')
    assert read_midi.to_words(from_bytes(BAND), 0, channel=1)[:2] == [
        '8330_90_4850',  # 9 * 0x30 ticks of drums before
        '30_80_4840',
    ]
    setup = read_midi.setup_of(from_bytes(BAND), 0, 2)
    assert setup.events == {'c1': 'c118'}


def test_a_program_in_the_middle_and_in_another_track():
    raw = song('00 c0 18', notes(0, 0x40, 1) + '00 c0 28  ' + notes(0, 0x41, 1))
    (part,) = read_midi.parts(from_bytes(raw))
    assert part.programs == [0x18, 0x28]
    alone = song('00 c0 18', notes(0, 0x40, 1), format=2)
    assert [part.programs for part in read_midi.parts(from_bytes(alone))] == [[0]]


def command(program, *args):
    return subprocess.run(
        [sys.executable, program.__file__, *args], capture_output=True, text=True, encoding='utf-8'
    )


def test_read_midi_has_the_same_defaults(folder):
    (folder / 'pop.mid').write_bytes(POP)
    (folder / 'band.mid').write_bytes(BAND)
    (folder / 'drums.mid').write_bytes(DRUMS)
    for file in ('pop.mid', 'band.mid'):
        words = command(read_midi, file, '--words').stdout.split()
        assert {word[-7:] for word in words} == {'91_4050', '81_4040'} and len(words) == 8
        words = command(read_midi, file, '--words', '--channel', '10').stdout.split()
        assert {word[-7:] for word in words} == {'99_2450', '89_2440'} and len(words) == 18
        assert "'Voice'" in command(read_midi, file).stdout or file == 'band.mid'
    drums = command(read_midi, 'drums.mid', '--words')
    assert len(drums.stdout.split()) == 22 and 'drums' in drums.stderr
    table = command(read_midi, 'band.mid', '--channel', '3').stdout.splitlines()
    assert sum('note on' in line for line in table) == 2
    assert command(read_midi, 'pop.mid', '--channel', '17').returncode == 2


def test_what_learning_says(folder):
    for file, raw in (('pop.mid', POP), ('band.mid', BAND), ('drums.mid', DRUMS)):
        (folder / file).write_bytes(raw)
    assert music.read(['pop.mid']).remarks[-1] == 'learning track 2, channel 2'
    assert music.read(['band.mid']).remarks[-1] == 'learning track 0, channel 2'
    assert music.read(['pop.mid'], track='all').remarks[-1] == 'learning all tracks'
    assert len(music.read(['band.mid']).remarks) == 5
    said = music.read(['drums.mid']).remarks
    assert said[-2:] == ['learning track 0', 'drums.mid: only percussion is learned']
    assert 'drums.mid: only percussion is learned' in music.read(['pop.mid', 'drums.mid']).remarks
    assert not [line for line in music.read(['pop.mid']).remarks if 'percussion' in line]


def test_a_pitch_never_means_a_drum():
    assert music.pitch_words(['<eos>', '00_99_2450', '30_91_2450', '00_99_2650']) == {
        0x24: '30_91_2450'
    }


# Transposing


def test_percussion_is_not_copied():
    melody, drums = ['00_90_4050', '30_80_4040'], ['00_99_2450', '30_89_2440']
    words = ['<eos>', *drums, '<eos>', *melody, *drums, '<eos>']
    assert music.also_transposed(words, 0, 1) == [
        *['<eos>', '00_90_4150', '30_80_4140', *drums],
        *words,
    ]
    assert music.also_transposed(['<eos>', *drums], -5, 6) == ['<eos>', *drums]


# Many files


def test_a_folder_that_fails_names_reasons(folder):
    (folder / 'set').mkdir()
    for n in range(5):
        (folder / 'set' / f'{n}.mid').write_bytes(song('') if n % 2 else b'MThd')
    with pytest.raises(MusicError) as error:
        music.read(['set'])
    assert all(said in str(error.value) for said in ('0.mid', '1.mid', 'no notes', 'MThd'))
    assert '\n' not in str(error.value) and '4.mid' not in str(error.value)


def test_a_bad_file_among_others_tells_of_folders(folder):
    (folder / 'good.mid').write_bytes(POP)
    (folder / 'bad.mid').write_bytes(b'MThd')
    with pytest.raises(MusicError, match='bad.mid.*folder'):
        music.read(['good.mid', 'bad.mid'])
    with pytest.raises(MusicError) as error:
        music.read(['bad.mid'])
    assert 'folder' not in str(error.value)


def test_a_zip(folder):
    with zipfile.ZipFile('songs.zip', 'w') as archive:
        archive.writestr('b/pop.mid', POP)
        archive.writestr('a/band.MID', BAND)
        archive.writestr('a/bad.mid', b'MThd')
        archive.writestr('readme.txt', 'no music')
    found = music.read(['songs.zip'])
    assert [len(piece) for piece in found.pieces] == [8, 8]
    assert any('left out' in line and 'bad.mid' in line for line in found.remarks)
    assert music.is_music('songs.zip')
    (folder / 'book.txt').write_text('a book', encoding='utf-8')
    assert not music.is_music('book.txt')


def test_an_address(folder):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header('Content-Length', str(len(POP)))
            self.end_headers()
            self.wfile.write(POP)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}/pop.mid'
        try:
            assert len(music.read([address]).pieces[0]) == 8
        finally:
            server.shutdown()


def test_the_setup_of_many_is_that_of_one(folder):
    """a has no metre and no tempo; b has, and a program for the channel that a uses."""
    (folder / 'a.mid').write_bytes(song(notes(0, 0x40, 3)))
    (folder / 'b.mid').write_bytes(
        song(
            '00 ff 58 04 03 02 18 08  00 ff 51 03 0a 2c 2a  00 c0 05  00 c3 07  '
            + notes(0, 0x40, 2)
            + notes(3, 0x40, 3)
        )
    )
    assert music.read(['a.mid', 'b.mid'], 'all').setup.events == {'c3': 'c307'}
    (folder / 'c.mid').write_bytes(song('00 ' + tempo(90) + '00 cf 09  ' + notes(15, 0x40, 3)))
    assert music.read(['a.mid', 'c.mid'], 'all').setup.events == {'cf': 'cf09'}
    assert music.read(['b.mid', 'a.mid'], 'all').setup.events == {
        'ff58': 'ff580403021808',
        'ff51': 'ff51030a2c2a',
        'c0': 'c005',
        'c3': 'c307',
    }


# Time


def tempo(bpm):
    return f'ff 51 03 {round(60000000 / bpm):06x}  '


QUARTER, BAR = '83 60 ', '8f 00 '


@pytest.mark.parametrize(
    'track, bpm, metre',
    [
        ('00 ' + tempo(31) + BAR + tempo(400) + (BAR + '90 40 50  ') * 4, 400, None),
        (BAR * 0 + '8f 00 90 40 50  ' * 4 + '00 ' + tempo(60) + '8f 00 90 40 50', None, None),
        ('8f 00 90 40 50  00 ' + tempo(60) + '8f 00 90 40 50  ' * 3, 60, None),
        ('00 ' + tempo(90), 90, None),
        # all that a tempo holds counts together
        ('00 ' + tempo(90) + BAR + tempo(100) + '9e 00 ' + tempo(90) + '8e 00 90 40 50', 100, None),
        (
            '00 ' + tempo(90) + '97 00 ' + tempo(100) + '97 00 ' + tempo(90) + '8f 00 90 40 50',
            90,
            None,
        ),
        # a tempo behind the last note holds for nothing
        ('00 ' + tempo(90) + '8f 00 90 40 50  8f 00 ' + tempo(31) + 'ff 7f', 90, None),
        ('00 ff 58 04 03 02 18 08  8f 00 ff 58 04 06 03 18 08  9e 00 90 40 50', None, '0603'),
        ('9e 00 90 40 50  00 ff 58 04 03 02 18 08  8f 00 90 40 50', None, None),
    ],
)
def test_tempo_and_metre_that_hold_longest(track, bpm, metre):
    track = track.removesuffix('ff 7f')
    events = read_midi.setup_of(from_bytes(song(track + '00 90 41 50')), 0).events
    found = events.get('ff51')
    assert (found and round(60000000 / int(found[6:], 16))) == bpm
    assert (events.get('ff58') or '')[6:10] == (metre or '')


def test_tempo_changes_are_words():
    raw = song(
        '00 ' + tempo(120) + QUARTER + tempo(100) + QUARTER + tempo(80) + '87 40 ' + tempo(60),
        notes(0, 0x40, 1) + '83 30 90 41 50  10 81 45 40  10 80 41 40',
    )
    assert words_of(raw, 1) == [
        '00_90_4050',
        '30_80_4040',
        '8330_90_4150',
        '10_81_4540',
        '10_80_4140',
    ]
    assert words_of(raw, 1, 'performance') == [
        '00_ff_510307a120',
        '00_90_4050',
        '30_80_4040',
        '8330_ff_5103' + f'{600000:06x}',
        '00_90_4150',
        '10_81_4540',
        '10_80_4140',
    ]  # nothing of what changes after the last of its own events
    words = words_of(raw, 1, 'performance')
    setup = read_midi.setup_of(from_bytes(raw), 1)
    assert read_back(words, None, 'performance') == words
    assert read_back(words, setup, 'performance') == words  # the set-up does not say it twice
    written = mido.MidiFile(file=io.BytesIO(write_midi.to_bytes(write_midi.to_data(words, setup))))
    tempi = [message.tempo for message in written.tracks[0] if message.type == 'set_tempo']
    assert tempi == [500000, 600000]


@pytest.mark.parametrize(
    'word', ['00_ff_5103000000', '00_ff_5104000001', '00_ff_580404021808', '00_ff_510307a1']
)
def test_no_other_meta_event_is_a_word(word):
    with pytest.raises(MusicError):
        write_midi.to_data([word])


def test_one_tempo():
    words = ['00_ff_510307a120', '10_90_4050', '10_ff_5103080000', '10_80_4040']
    setup = Setup('01e0', {'ff51': 'ff510307a120', 'c0': 'c005'})
    kept, slower = music.at_tempo(words, setup, 60)
    assert kept == ['10_90_4050', '20_80_4040']
    assert slower == Setup('01e0', {'ff51': 'ff51030f4240', 'c0': 'c005'})
    with pytest.raises(MusicError, match='SMPTE'):
        music.at_tempo(words, Setup('e728', {}), 60)


# Recordings


def test_on_grid():
    """480 a quarter, 4 steps: 120 ticks each. By hand."""
    track = (
        '0a 90 40 53  '  # step 0, ends at 0x0a + 0x74 = 126, step 1
        '74 80 40 12  '
        '78 90 41 01  '  # 246, step 2, velocity 1
        '05 81 41 00  '  # another channel
        '05 90 41 00  '  # 256: rounded to no length, a step then
    )
    (channel_1,) = [music.on_grid(from_bytes(song(track)), 0, 1, 'notes', 4)]
    assert channel_1 == ['00_90_4058', '01_80_4040', '01_90_4108', '01_80_4140']


def test_the_pedal_lengthens_notes():
    pedal = '00 b0 40 7f  83 60 b0 40 00  83 60 b0 40 00'
    played = notes(0, 0x40, 1) + notes(0, 0x43, 1) + '8d 20 90 40 50  30 80 40 40'
    words = music.on_grid(from_bytes(song(pedal, played)), 1, 1, 'notes', 4)
    assert words == [
        '00_90_4058',
        '00_90_4358',
        '04_80_4040',
        '00_80_4340',
        '0b_90_4058',
        '01_80_4040',
    ]
    struck_again = (
        '00 b0 40 7f  ' + notes(0, 0x40, 1) + '83 30 90 40 50  10 80 40 40  83 60 b0 40 00'
    )
    words = music.on_grid(from_bytes(song(struck_again)), 0, 1, 'performance', 4)
    assert words == ['00_90_4058', '04_80_4040', '00_90_4058', '04_80_4040']


@pytest.mark.parametrize('division, seconds', [(480, 0.5), (96, 0.5), (0xE728, 0.5)])
def test_a_grid_has_the_time_of_the_source(folder, division, seconds):
    quarter = '83 60' if division == 480 else '60' if division == 96 else '83 74'
    raw = song(f'00 90 40 50  {quarter} 80 40 40' * 3, division=division)
    (folder / 'live.mid').write_bytes(raw)
    found = music.read(['live.mid'], grid=12)
    assert found.setup == Setup('000c', {}, 12)
    assert found.pieces == [['00_90_4058', '0c_80_4040'] * 3]
    written = write_midi.to_bytes(write_midi.to_data(found.pieces[0], found.setup))
    assert mido.MidiFile(file=io.BytesIO(written)).length == pytest.approx(3 * seconds)


# Notes


def test_ends_of_silent_notes_are_left_out_of_what_is_composed():
    words = ['10_80_4040', '10_90_4050', '10_80_4140', '10_90_4000', '10_80_4040', '10_90_4150']
    setup = Setup('0060', {})
    data = write_midi.to_data(words, setup, composed=True)
    assert read_midi.to_words(data, 0) == ['20_90_4050', '20_90_4000', '20_90_4150', '60_80_4140']
    assert read_back(words, setup)[:6] == words  # what a user gives stays
    cut = Setup('0060', {}, 8)  # the end that comes after the longest note was ended is one, too
    data = write_midi.to_data(['00_90_4050', '10_80_4040', '10_90_4150'], cut, composed=True)
    assert read_midi.to_words(data, 0) == ['00_90_4050', '08_80_4040', '18_90_4150', '08_80_4140']


def test_the_time_of_what_is_left_out_lasts_to_the_end():
    data = write_midi.to_data(['00_90_4050', '10_80_4040', '8100_80_4040'], None, composed=True)
    last = data['tracks'][0]['chunks'][-1]
    assert (last['meta'], last['delta']) == (b'\x2f', b'\x81\0')
    with pytest.raises(MusicError, match='rest'):
        write_midi.to_data(['ffffff7f_80_4040'] * 2 + ['00_90_4050'], None, composed=True)


def test_a_source_without_ends_of_notes(folder):
    (folder / 'on.mid').write_bytes(song('00 90 40 50  83 60 90 41 50'))
    (folder / 'smpte.mid').write_bytes(song('00 90 40 50  83 60 90 41 50', division=0xE728))
    (folder / 'no_length.mid').write_bytes(song('00 90 40 50  00 80 40 40'))
    assert music.read(['on.mid']).setup.longest == 480
    assert music.read(['smpte.mid']).setup.longest == 500  # half a second
    assert music.read(['no_length.mid']).setup.longest == 480


def test_a_note_too_long_for_a_setup(folder):
    (folder / 'long.mid').write_bytes(song('00 90 40 50  ff ff ff 7f b0 00 00  10 80 40 40'))
    setup = music.read(['long.mid'], events='performance').setup
    assert setup.longest == (1 << 28) - 1
    assert Setup.from_dict({**vars(setup)}) == setup


def test_overlapping_notes_of_one_key_are_ended_one_by_one():
    words = ['00_90_4050', '10_90_4060', '10_80_4040', '10_80_4040', '10_90_4170']
    found = [(n.start, n.end, n.key, n.velocity) for n in notes_of(read_midi.in_ticks(words))]
    assert found == [(0, 0x20, 64, 0x50), (0x10, 0x30, 64, 0x60), (0x40, None, 65, 0x70)]
    assert music.longest_note(words) == 0x20


def test_generated_files_please_midi2abc(folder):
    """midi2abc (Debian: abcmidi) complains of each end of a note that does not sound."""
    words = ['10_80_4040', '10_90_4050', '10_80_4140', '10_90_4000', '10_80_4040', '10_90_4150']
    data = write_midi.to_data(words, Setup('0060', {}), composed=True)
    write_midi.write_midi(data, 'out.mid')
    try:
        done = subprocess.run(
            ['midi2abc', 'out.mid'], capture_output=True, text=True, encoding='utf-8'
        )
    except FileNotFoundError:
        pytest.skip('midi2abc is not here')
    assert not re.search('note.*off|error|terminat', done.stdout + done.stderr, re.I)


# The commands


def failed(capsys, expected, program, *args):
    """The last line on stderr of a call that must end with this exit code."""
    try:
        code = program.main([*args])
    except SystemExit as exit:
        code = exit.code
    err = capsys.readouterr().err
    assert code == expected, err
    return err.splitlines()[-1]


@pytest.mark.parametrize('source', ['x.mid', 'folder', 'x.zip', 'nameless'])
def test_a_corpus_of_music_says_midi(folder, capsys, source):
    (folder / 'x.mid').write_bytes(POP)
    (folder / 'nameless').write_bytes(POP + bytes([0xFF] * 9))
    (folder / 'folder').mkdir()
    (folder / 'folder' / 'x.mid').write_bytes(POP)
    with zipfile.ZipFile('x.zip', 'w') as archive:
        archive.writestr('x.mid', POP)
    (folder / 'text.txt').write_text('a cat and a dog ' * 20, encoding='utf-8')
    assert '--midi' in failed(capsys, 1, train, '--corpus', source)
    (folder / 'texts').mkdir()
    (folder / 'texts' / 'text.txt').write_text('a cat and a dog ' * 20, encoding='utf-8')
    for corpus in 'text.txt', 'texts':
        said = failed(capsys, 1, train, '--corpus', corpus, '--valid', source)
        assert 'music; --midi learns it' in said


def test_a_text_is_no_music(capsys, folder):
    (folder / 'text.txt').write_text('the cat sat\n' * 50, encoding='utf-8')
    assert '--corpus' in failed(capsys, 1, train, '--midi', 'text.txt')


@pytest.mark.parametrize(
    'options, said',
    [
        (['--corpus', 'x.txt', '--channel', '1'], '--channel'),
        (['--corpus', 'x.txt', '--grid', '12'], '--grid'),
        (['--midi', 'x.mid', '--channel', '0'], '1 to 16'),
        (['--midi', 'x.mid', '--channel', '17'], '1 to 16'),
        (['--midi', 'x.mid', '--grid', '-1'], '--grid'),
    ],
)
def test_wrong_calls_of_train(capsys, options, said):
    assert said in failed(capsys, 2, train, *options)


def test_learning_and_composing_at_a_tempo(folder, capsys):
    long = '00 ' + tempo(90) + '00 c1 18  ' + notes(1, 0x40, 40) + notes(9, 0x24, 60)
    (folder / 'live.mid').write_bytes(song(long, format=0))
    run = ['--midi', 'live.mid', '--grid', '4', '--channel', '2', *TINY]
    assert train.main([*run, '--events', 'performance']) == 0
    vocabulary = checkpoint.load('result/live/last.npz').vocabulary
    assert [word for word in vocabulary if '_9' in word] == ['00_91_4058']
    assert [word for word in vocabulary if '_ff_' in word] == ['00_ff_51030a2c2b']
    assert 'cannot change' in failed(capsys, 2, train, '--resume', '--channel', '3')
    compose = ['--midi', 'out.mid', '--primer', 'live.mid', '--length', '4', '--seed', '0']
    for options, bpm in (([], 90), (['--bpm', '60'], 60), (['--bpm', '132.5'], 132.5)):
        assert generate.main([*compose, *options]) == 0
        (track,) = mido.MidiFile('out.mid').tracks
        tempi = [mido.tempo2bpm(m.tempo) for m in track if m.type == 'set_tempo']
        assert tempi[0] == pytest.approx(bpm, abs=0.001)
        assert 'new to the model' not in capsys.readouterr().err
    for bpm in ('3', '1001', 'nan'):
        assert '--bpm' in failed(capsys, 2, generate, *compose, '--bpm', bpm)
    assert '--bpm' in failed(capsys, 2, generate, '--bpm', '100', '--start', 'x')


def test_a_drum_is_no_pitch(folder, capsys):
    (folder / 'drums.mid').write_bytes(song(notes(9, 0x24, 60)))
    assert train.main(['--midi', 'drums.mid', '--transpose', '-5', '6', *TINY]) == 0
    said = capsys.readouterr().out
    assert 'only percussion is learned' in said and 'nothing is transposed' in said
    said = failed(capsys, 2, generate, '--midi', 'out.mid', '--start', 'C2')
    assert 'percussion' in said and '99_2450' in said
    assert generate.main(['--midi', 'o.mid', '--start', '00_99_2450', '--length', '0']) == 0
