"""sound.py: a piece as sound, as a picture and as a line; notes.py: when its notes sound."""

import wave

import numpy
import pytest
import soundfile
from matplotlib import image

from read_midi import MusicError, Setup
from support import sound
from support.notes import Note, notes, seconds
from write_midi import to_data

SCALE = [word for key in (69, 71, 72) for word in (f'00_90_{key:02x}50', f'8360_80_{key:02x}40')]
DRUM = ['00_99_2650', '8360_89_2640']  # a snare
FLUTE = {'c0': 'c049'}


def heard(data, path='out.wav', **more):
    """(samples per second, (N, 2) float) of the sound that write_audio writes."""
    sound.write_audio(data, path, **more)
    samples, rate = soundfile.read(path, always_2d=True)
    return rate, samples


def pitch(samples, rate):
    """The strongest frequency in Hz."""
    mono = samples.mean(axis=1)
    spectrum = abs(numpy.fft.rfft(mono * numpy.hanning(len(mono)), 1 << 18))
    return spectrum.argmax() * rate / (1 << 18)


@pytest.mark.parametrize(
    'division, tempo, length',
    [
        ('01e0', 'ff510307a120', 1.5),
        ('01e0', 'ff51030f4240', 3),
        ('00f0', 'ff510307a120', 3),
        ('e728', 'ff51030f4240', 1.44),  # SMPTE: 25 frames of 40 ticks, the tempo says nothing
        ('e350', 'ff510307a120', 1440 / 80 / 29.97),
    ],
)
def test_pitch_and_length(folder, division, tempo, length):
    data = to_data(SCALE, Setup(division, {'ff51': tempo, **FLUTE}))
    rate, samples = heard(data)
    assert len(samples) / rate == pytest.approx(length + 1, abs=0.05)  # a second to fade away
    for n, key in enumerate((69, 71, 72)):
        part = samples[int((n + 0.2) * length / 3 * rate) : int((n + 0.9) * length / 3 * rate)]
        # A4 is 440 Hz; the sample of the SoundFont is a few cents off
        assert pitch(part, rate) == pytest.approx(440 * 2 ** ((key - 69) / 12), rel=0.01)
    ends = seconds(data, [note.end for note in notes(data)])
    numpy.testing.assert_allclose(ends, numpy.array([1, 2, 3]) * length / 3, rtol=1e-5)


@pytest.mark.parametrize('ending, kind', [('wav', 'WAV'), ('flac', 'FLAC'), ('ogg', 'OGG')])
def test_formats(folder, ending, kind):
    rate, samples = heard(to_data(SCALE, Setup('01e0', FLUTE)), f'out.{ending}')
    assert soundfile.info(f'out.{ending}').format == kind
    assert 0.5 < abs(samples).max() <= 1
    assert pitch(samples[: rate // 2], rate) == pytest.approx(440, rel=0.01)


def test_mp3(folder):
    rate, samples = heard(to_data(SCALE, Setup('01e0', FLUTE)), 'out.mp3')
    assert (folder / 'out.mp3').read_bytes()[:2] in (b'\xff\xfb', b'\xff\xfa', b'ID')
    assert 0.5 < abs(samples).max() <= 1
    assert pitch(samples[: rate // 2], rate) == pytest.approx(440, rel=0.01)


def test_wav_is_16_bits_at_the_loudest_and_at_the_softest(folder):
    chord = [f'00_9{channel:x}_{key:02x}7f' for channel in range(8) for key in range(40, 80, 4)]
    for words in (chord, ['00_90_4510']):
        rate, samples = heard(to_data(words))
        assert 0.85 < abs(samples).max() < 0.95
        # cut-off peaks would stand side by side
        assert (abs(samples) > 0.99 * abs(samples).max()).mean() < 0.001
    with wave.open('out.wav') as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, rate)


def test_velocity_pedal_and_drums_are_heard(folder):
    def energy(words, start, end):
        rate, samples = heard(to_data(['00_90_5450', *words]))  # the same loud note first
        return (samples[int(start * rate) : int(end * rate)] ** 2).mean()

    rest, note = ['8360_80_5440', '8360_90_3c{}', '8360_80_3c40'], (1, 1.5)
    assert energy([w.format('60') for w in rest], *note) > 4 * energy(
        [w.format('20') for w in rest], *note
    )
    pedal = ['00_b0_407f', '8360_80_5440', '9e00_b0_4000']
    no_pedal = [pedal[0].replace('7f', '00'), *pedal[1:]]
    assert energy(pedal, 1, 1.5) > 10 * energy(no_pedal, 1, 1.5)
    assert energy(['8360_80_5440', '9e00_99_2650', '8360_89_2640'], 4.5, 4.7) > 1e-4


def test_drums_alone(folder):
    rate, samples = heard(to_data(DRUM))
    assert abs(samples).max() > 0.5
    mono = samples[: rate // 4].mean(axis=1)
    power = abs(numpy.fft.rfft(mono)) ** 2
    loud = numpy.sort(power)[::-1]
    assert loud[: len(loud) // 100].sum() < 0.9 * power.sum()  # a noise and not a tone


def test_overlapping_notes_of_one_key_end_one_by_one(folder):
    words = ['00_90_4550', '8360_90_4550', '8360_80_4540', 'a540_80_4540']
    data = to_data(words, Setup('01e0', FLUTE))
    assert [(note.start, note.end) for note in notes(data)] == [(0, 960), (480, 5760)]
    rate, samples = heard(data)
    assert (samples[2 * rate : 5 * rate] ** 2).mean() > 1e-3  # after the first has ended
    (axes,) = sound.piano_roll(data).axes
    (lines,) = axes.collections
    numpy.testing.assert_allclose(lines.get_segments(), [[(0, 69), (1, 69)], [(0.5, 69), (6, 69)]])


def test_tempo_changes_and_programs():
    data = to_data(['00_c0_28', *SCALE[:4], '00_c0_49', *SCALE[4:]])
    tempo = {'delta': b'\0', 'status': b'\xff', 'meta': b'\x51', 'length': b'\3'}
    data['tracks'][0]['chunks'].insert(3, {**tempo, 'body': b'\x0f\x42\x40'})  # 1 s a quarter
    numpy.testing.assert_allclose(seconds(data, [0, 240, 480, 720, 9600]), [0, 0.25, 0.5, 1, 19.5])
    assert notes(data) == [
        Note(0, 480, 69, 80, 1, 40),
        Note(480, 960, 71, 80, 1, 40),
        Note(960, 1440, 72, 80, 1, 73),
    ]


def test_a_soundfont_of_ones_own(folder):
    (folder / 'own.sf2').write_bytes(sound.SOUNDFONT.read_bytes())
    default, own = heard(to_data(SCALE)), heard(to_data(SCALE), soundfont='own.sf2')
    numpy.testing.assert_array_equal(default[1], own[1])
    (folder / 'cut.sf2').write_bytes(sound.SOUNDFONT.read_bytes()[:100000])
    for name in ('cut.sf2', 'out.wav'):
        with pytest.raises(MusicError, match=f'{name}: not a SoundFont'):
            sound.write_audio(to_data(SCALE), 'new.wav', name)
    with pytest.raises(OSError):
        sound.write_audio(to_data(SCALE), 'new.wav', 'none.sf2')
    assert not (folder / 'new.wav').exists()


@pytest.mark.parametrize('words', [['00_90_4501'], ['00_b0_0700', *SCALE]])
def test_no_file_of_silence(folder, words):
    with pytest.raises(MusicError, match='nothing of it can be heard'):
        sound.write_audio(to_data(words), 'out.wav')
    assert not list(folder.iterdir())


def test_piano_roll():
    data = to_data([*SCALE, *DRUM, *(word.replace('26', '23') for word in DRUM)])
    upper, lower = sound.piano_roll(data).axes
    (melody,) = upper.collections
    numpy.testing.assert_allclose(
        melody.get_segments(), [[(0, 69), (0.5, 69)], [(0.5, 71), (1, 71)], [(1, 72), (1.5, 72)]]
    )
    (hits,) = lower.lines
    numpy.testing.assert_allclose(hits.get_xydata(), [(1.5, 1), (2, 0)])
    names = [label.get_text() for label in lower.get_yticklabels()]
    assert names == ['Acoustic Bass Drum', 'Acoustic Snare']
    assert lower.get_xlabel() == 'seconds'
    assert upper.get_xlim() == lower.get_xlim() == (0, 2.5)
    assert [label.get_text() for label in upper.get_yticklabels()] == ['G4', 'A4', 'B4', 'C5', 'D5']
    assert not upper.figure.legends  # one instrument needs none
    duet = [*SCALE, '00_c1_2a', *(word.replace('_9', '_91').replace('110', '1') for word in SCALE)]
    duet[7:] = [word.replace('_90_', '_91_').replace('_80_', '_81_') for word in SCALE]
    (axes,) = sound.piano_roll(to_data(duet)).axes
    names = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert names == ['Acoustic Grand Piano', 'Cello']


@pytest.mark.parametrize(
    'metre, bar, beat, label',
    [
        ('ff580403021808', 1.5, 0.5, 'bars of 3/4; 12 seconds'),
        ('ff580406031808', 1.5, 0.25, 'bars of 6/8; 12 seconds'),
        ('ff580404021808', 2, 0.5, 'bars of 4/4; 12 seconds'),
    ],
)
def test_bars_and_beats(metre, bar, beat, label):
    (axes,) = sound.piano_roll(to_data(SCALE * 8, Setup('01e0', {'ff58': metre}))).axes
    bars = {text.get_text(): at for text, at in zip(axes.get_xticklabels(), axes.get_xticks())}
    assert [bars['1'], bars['2'], bars['5']] == [0, bar, 4 * bar]
    beats = axes.get_xticks(minor=True)
    numpy.testing.assert_allclose(beats[:2], [beat, 2 * beat])
    assert axes.get_xlabel() == label
    assert axes.get_xlim() == (0, 12)


def test_bars_of_a_long_piece_leave_room_for_their_numbers():
    setup = Setup('01e0', {'ff58': 'ff580401021808'})
    (axes,) = sound.piano_roll(to_data(SCALE * 200, setup)).axes  # 600 bars
    ticks = axes.get_xticks()
    assert 20 < len(ticks) <= 100 and len(axes.get_xticks(minor=True)) <= 480
    assert len({*numpy.diff(ticks)}) == 1


def test_png(folder):
    sound.write_png(to_data(SCALE), 'out.png')
    assert image.imread('out.png').shape[:2] == (500, 800)


@pytest.mark.parametrize(
    'words, setup, line',
    [
        (SCALE, None, 'A4 1/4, B4 1/4, C5 1/4'),
        (['00_90_4550', '00_90_4950', '8550_80_4540', '00_80_4940'], None, 'A4+C#5 3/8'),
        (['00_90_3c50', '8120_80_3c40', *DRUM], None, 'C4 1/12, Acoustic Snare'),
        (['00_90_4550', '8338_80_4540'], None, 'A4 1/4'),  # a little short
        (SCALE[:2], Setup('e728', {}), 'A4 0.48 s'),
        (['00_b0_4000'], None, ''),
    ],
)
def test_line(words, setup, line):
    assert sound.line_of(to_data(words, setup)) == line


def test_a_long_line_is_two():
    lines = sound.line_of(to_data(SCALE * 20)).split('\n')
    assert len(lines) == 2 and max(map(len, lines)) <= 79 and lines[1].endswith('...')


@pytest.mark.parametrize(
    'words, said',
    [
        ([], 'no note'),
        (['00_b0_4000'], 'no note'),
        (['00_90_4050', 'ffffff7f_80_4040'], 'lasts'),
        (['00_90_4050', '81f41c_80_4040'] * 1000, 'up to 3,600'),
    ],
)
def test_what_cannot_be_heard(folder, words, said):
    for write in (sound.write_audio, sound.write_png):
        with pytest.raises(MusicError, match=said):
            write(to_data(words), 'out')
    assert not list(folder.iterdir())
