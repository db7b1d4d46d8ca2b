"""sound.py: a piece as sound and as a picture."""

import wave

import numpy
import pytest
from matplotlib import image

from read_midi import MusicError, Setup
from support import sound
from write_midi import to_data

SCALE = [word for key in (69, 71, 72) for word in (f'00_90_{key:02x}50', f'8360_80_{key:02x}40')]


@pytest.mark.parametrize(
    'division, tempo, seconds',
    [
        ('01e0', 'ff510307a120', 1.5),
        ('01e0', 'ff51030f4240', 3),
        ('00f0', 'ff510307a120', 3),
        ('e728', 'ff51030f4240', 1.44),  # SMPTE: 25 frames of 40 ticks, the tempo says nothing
        ('e350', 'ff510307a120', 1440 / 80 / 29.97),
    ],
)
def test_wav(folder, division, tempo, seconds):
    data = to_data(SCALE, Setup(division, {'ff51': tempo}))
    sound.write_wav(data, 'out.wav')
    with wave.open('out.wav') as file:
        rate, samples = (
            file.getframerate(),
            numpy.frombuffer(file.readframes(file.getnframes()), '<i2'),
        )
    assert len(samples) / rate == pytest.approx(seconds + 1, abs=0.01)  # a second to fade away
    for n, key in enumerate((69, 71, 72)):  # the loudest frequency in each third
        part = samples[int((n + 0.1) * seconds / 3 * rate) : int((n + 0.8) * seconds / 3 * rate)]
        spectrum = abs(numpy.fft.rfft(part * numpy.hanning(len(part)), 1 << 17))
        pitch = spectrum.argmax() * rate / (1 << 17)
        assert pitch == pytest.approx(440 * 2 ** ((key - 69) / 12), rel=0.01)


def test_fluidsynth_where_it_is(folder, monkeypatch):
    import pretty_midi

    monkeypatch.setattr(
        pretty_midi.PrettyMIDI, 'fluidsynth', lambda self, fs: numpy.sin(numpy.arange(fs) / 10)
    )
    sound.write_wav(to_data(SCALE), 'out.wav')
    with wave.open('out.wav') as file:
        assert (file.getframerate(), file.getnframes()) == (44100, 44100)


def test_piano_roll():
    drums = ['00_99_2450', '8360_89_2440']
    (axes,) = sound.piano_roll(to_data(SCALE + drums)).axes
    melody, beat = [collection.get_segments() for collection in axes.collections]
    numpy.testing.assert_allclose(
        melody, [[(0, 69), (0.5, 69)], [(0.5, 71), (1, 71)], [(1, 72), (1.5, 72)]]
    )
    numpy.testing.assert_allclose(beat, [[(1.5, 36), (2, 36)]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('seconds', 'key')
    assert axes.get_xlim() == (0, 2)
    assert {
        label.get_text(): tick for label, tick in zip(axes.get_yticklabels(), axes.get_yticks())
    } == {'C2': 36, 'G2': 43, 'C3': 48, 'G3': 55, 'C4': 60, 'G4': 67, 'C5': 72}
    names = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert names == ['Acoustic Grand Piano', 'drums']
    (axes,) = sound.piano_roll(to_data(SCALE)).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ['G4', 'A4', 'B4', 'C5', 'D5']
    assert not axes.figure.legends


def test_png(folder):
    sound.write_png(to_data(SCALE), 'out.png')
    assert image.imread('out.png').shape[:2] == (500, 800)


@pytest.mark.parametrize(
    'words, said',
    [
        ([], 'no note'),
        (['00_b0_4000'], 'no note'),
        (['00_90_4050', 'ffffff7f_80_4040'], 'lasts'),
        (['00_90_4050', '81f41c_80_4040'] * 1000, 'lasts'),
        ([f'00_9{channel}_4050' for channel in range(9)] + ['98b500_80_4040'], 'up to 400'),
    ],
)
def test_what_cannot_be_heard(folder, words, said):
    for write in (sound.write_wav, sound.write_png):
        with pytest.raises(MusicError, match=said):
            write(to_data(words), 'out')
    assert not list(folder.iterdir())


def test_drums_alone_are_silent_without_fluidsynth(folder):
    sound.write_wav(to_data(['00_99_2450', '8360_89_2440']), 'out.wav')
    with wave.open('out.wav') as file:
        assert file.getnframes() > 0
