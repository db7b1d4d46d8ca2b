"""train.py --midi and generate.py --midi: the article's second experiment."""

import argparse
import json
import pathlib
import re
import shutil
import wave

import mido
import numpy
import pytest
import soundfile

from support import checkpoint, data
import generate
from support import music
import train
import write_midi
from read_midi import Setup
from conftest import TINY, forge, run

RUN = [*TINY, '--epoch', '1']


def melody(keys, channel=0, velocity=0x50):
    return [
        word
        for key in keys
        for word in (f'00_9{channel}_{key:02x}{velocity:x}', f'60_8{channel}_{key:02x}40')
    ]


SETUP = Setup('0060', {'ff51': 'ff51030f4240', 'c0': 'c06b'})


@pytest.fixture
def tune(folder):
    """tune.mid: 240 notes of five keys, 60 quarters a minute, program 107."""
    keys = numpy.random.RandomState(0).choice([60, 62, 64, 67, 69], 240)
    write_midi.write_midi(write_midi.to_data(melody(keys), SETUP), 'tune.mid')
    return folder / 'tune.mid'


@pytest.fixture
def composer(tune):
    """The folder of a run on tune.mid that has learnt how rare an end is."""
    assert train.main(['--midi', 'tune.mid', *RUN, '--epoch', '3', '--lr', '0.02']) == 0
    return tune.parent / 'result' / 'tune'


def test_samples_are_notes_and_the_log_has_their_words(tune, folder, capsys):
    train.main(['--midi', 'tune.mid', *RUN, '--epoch', '4', '--lr', '0.02', '--sample-every', '2'])
    out = capsys.readouterr().out
    shown = re.findall('it writes ---\\n(.*?)---$', out, re.M | re.S)
    assert len(shown) == 2
    for sample in shown:
        names = re.findall('[A-G]#?[0-9]', sample)
        assert names and sample.count('\n') <= 10 and not re.search('[0-9a-f]{2}_[89]', sample)
    assert train.main(['--resume', 'result/tune', '--epoch', '6']) == 0  # and it outlives that
    lines = (folder / 'result/tune/log.jsonl').read_text(encoding='utf-8').splitlines()
    log = [json.loads(line) for line in lines]
    samples = [entry.get('sample') for entry in log]
    assert [sample is None for sample in samples] == [True, False, True, False, True, False]
    words = samples[3].split()
    keys = [
        music.pitch_name(int(word[-4:-2], 16)) for word in words if re.search('_90_..[^0]', word)
    ]
    assert set(re.findall('[A-G]#?[0-9]', shown[1])) <= set(keys)


def words_in(path):
    (words,) = music.read([path]).pieces
    return words


# Learning


def test_a_bare_name_is_found_in_data(folder, capsys):
    assert train.main(['--midi', 'track1.mid', *RUN]) == 0
    said = capsys.readouterr().out
    assert 'learning track 1' in said and "3 'bass'" in said  # this one, and the others
    assert re.search(r'types per token', said) and 'by heart' not in said
    saved = checkpoint.load('result/track1/last.npz')
    assert saved.kind == 'music'
    assert saved.setup == {
        'division': '01e0',
        'events': {'ff58': 'ff580404021808', 'ff51': 'ff5103' + f'{454545:06x}', 'c0': 'c06b'},
        'longest': 1920,
    }


def words_of(*argv):
    """What train.py reads: the words to learn and those to validate on."""
    options = vars(train.options().parse_args([*argv]))
    args = argparse.Namespace(**{**train.DEFAULTS, **options})
    learned = data.load(args, None)
    return [[learned.vocabulary[i] for i in ids] for ids in (learned.ids, learned.validation[1:])]


def test_what_is_learned(tune):
    write_midi.write_midi(write_midi.to_data(melody([50, 51], 1), SETUP), 'two.mid')
    learned, validation = words_of('--midi', 'tune.mid', 'two.mid')
    words = ['<eos>', *words_in('tune.mid'), '<eos>', *melody([50, 51], 1), '<eos>']
    assert learned + validation == words and len(validation) == int(0.05 * len(words))


def test_performance(folder, capsys):
    words = ['00_b0_407f', *melody([60] * 30), '00_e0_0040', '00_c0_05'] * 3
    write_midi.write_midi(write_midi.to_data(words), 'pedal.mid')
    for events, known in (('notes', False), ('performance', True)):
        train.main(['--midi', 'pedal.mid', '--events', events, *RUN, '--out', events])
        vocabulary = checkpoint.load(f'{events}/last.npz').vocabulary
        assert ({'00_b0_407f', '00_e0_0040', '00_c0_05'} <= set(vocabulary)) == known
    generate.main(
        ['--midi', 'out.mid', '--primer', 'pedal.mid', '--model', 'performance', '--length', '0']
    )
    assert mido.MidiFile('out.mid').tracks[0][1].type == 'control_change'  # after the program


def test_validation_hears_nothing_twice(tune, capsys):
    argv = ['--midi', 'tune.mid', '--transpose', '-2', '1', '--val-frac', '0.25']
    learned, validation = words_of(*argv)
    plain = ['<eos>', *words_in('tune.mid'), '<eos>']
    kept = len(plain) - len(plain) // 4
    assert validation == plain[kept:] and learned[-kept:] == plain[:kept]
    assert len(learned) == 4 * kept


def test_advice_for_a_recording(folder, capsys):
    random = numpy.random.RandomState(1)
    words = [
        f'{random.randint(128):02x}_90_{random.randint(40, 80):02x}{random.randint(1, 128):02x}'
        for _ in range(500)
    ]
    write_midi.write_midi(write_midi.to_data(words), 'live.mid')
    train.main(['--midi', 'live.mid', *RUN])
    assert 'by heart' in capsys.readouterr().out


@pytest.mark.parametrize('keys, said', [(9, False), (10, True)])
def test_advice_begins_at_a_fifth(folder, capsys, keys, said):
    """98 words and two ends, of which 19 or 21 are different."""
    write_midi.write_midi(
        write_midi.to_data(melody([40 + n % keys for n in range(49)])), 'some.mid'
    )
    train.main(['--midi', 'some.mid', *RUN])
    assert ('by heart' in capsys.readouterr().out) == said


def test_a_resumed_run_equals_an_unbroken_one(tune):
    options = ['--midi', 'tune.mid', '--transpose', '-1', '1', '--track', '0', '--events', 'notes']
    train.main([*options, *TINY, '--out', 'whole'])
    train.main([*options, *RUN, '--out', 'parts'])
    assert train.main(['--resume', 'parts', '--epoch', '2']) == 0
    with numpy.load('whole/last.npz') as whole, numpy.load('parts/last.npz') as parts:
        for name in whole:
            if name.startswith('model/') or 'state' in name or 'optimizer' in name:
                numpy.testing.assert_array_equal(whole[name], parts[name])


def test_resume_finds_the_run_of_the_file(composer, small_text, failed):
    train.main(['--corpus', 'small.txt', *RUN])
    assert train.main(['--midi', 'tune.mid', '--resume', '--epoch', '4']) == 0
    assert checkpoint.load(composer / 'last.npz').epoch == 4
    for options in (['--track', '1'], ['--events', 'performance'], ['--transpose', '0', '1']):
        assert 'cannot change' in failed(2, train, '--resume', composer, *options)
    write_midi.write_midi(write_midi.to_data(melody([70] * 30)), 'tune.mid')
    assert 'tune.mid' in failed(1, train, '--resume', composer, '--epoch', '5')


@pytest.mark.parametrize(
    'options, expected, said',
    [
        (['--midi', 'absent.mid'], 1, 'absent.mid'),
        (['--midi', 'empty'], 1, 'empty'),
        (['--midi', 'broken'], 1, 'broken'),
        (['--midi', ''], 1, 'empty'),
        (['--midi', 'text.mid'], 1, 'MThd'),
        (['--midi', 'tune.mid', '--track', '5'], 1, 'no track 5'),
        (['--midi', 'tune.mid', '--track', 'one'], 2, 'one'),
        (['--midi'], 2, '--midi'),
        (['--midi', 'tune.mid', '--corpus', 'text.mid'], 2, 'one of the two'),
        (['--midi', 'tune.mid', '--level', 'char'], 2, '--level'),
        (['--midi', 'tune.mid', '--encoding', 'utf-8'], 2, '--encoding'),
        (['--corpus', 'text.mid', '--track', '0'], 2, '--track'),
        (['--corpus', 'text.mid', '--transpose', '0', '1'], 2, '--transpose'),
        (['--corpus', 'text.mid', '--events', 'notes'], 2, '--events'),
        (['--midi', 'tune.mid', '--transpose', '0', '200'], 2, '200'),
    ],
)
def test_wrong_calls_of_train(tune, failed, options, expected, said):
    (tune.parent / 'empty').mkdir()
    (tune.parent / 'broken').mkdir()
    (tune.parent / 'broken' / 'a.mid').write_bytes(b'MThd')
    (tune.parent / 'text.mid').write_text('no music', encoding='utf-8')
    assert said in failed(expected, train, *options)


# Composing


def written(words, folder):
    """The bytes of the file that a model must make of these words."""
    setup = Setup.from_dict(checkpoint.load(folder / 'last.npz').setup)
    return write_midi.to_bytes(write_midi.to_data(words, setup, composed=True))


def most_likely(folder, word, length):
    """`word`, which begins a piece, and what the network of a run says after it, to the end."""
    saved = checkpoint.load(folder / 'last.npz')
    model, vocabulary, words = saved.model, saved.vocabulary, [word]
    model.step([vocabulary.index('<eos>')])
    for _ in range(length):
        y = model.step([vocabulary.index(words[-1])])[0]
        if '<unk>' in vocabulary:
            y[vocabulary.index('<unk>')] = -numpy.inf
        if vocabulary[y.argmax()] == '<eos>':
            break
        words.append(vocabulary[y.argmax()])
    return words


def test_the_second_experiment(composer):
    for seed in map(str, range(100)):  # the first that does not end its piece before
        generate.main(['--midi', 'out.mid', '--seed', seed, '--length', '40'])
        words = words_in('out.mid')
        if len(words) >= 40:
            break
    else:
        pytest.fail('no piece of 40 words')
    piece = mido.MidiFile('out.mid')
    assert piece.ticks_per_beat == 96
    assert [
        (m.type, getattr(m, 'tempo', None), getattr(m, 'program', None))
        for m in piece.tracks[0][:2]
    ] == [('set_tempo', 1000000, None), ('program_change', None, 107)]
    vocabulary = checkpoint.load(composer / 'last.npz').vocabulary
    events = {word.split('_', 1)[1] for word in vocabulary if word != '<eos>'}
    assert {word.split('_', 1)[1] for word in words} <= events
    first = pathlib.Path('out.mid').read_bytes()
    assert generate.main(['--midi', 'again.mid', '--seed', seed, '--length', '40']) == 0
    assert pathlib.Path('again.mid').read_bytes() == first
    generate.main(['--midi', 'again.mid', '--seed', '2', '--length', '40'])
    assert pathlib.Path('again.mid').read_bytes() != first
    on = sum(m.type == 'note_on' and m.velocity > 0 for m in piece.tracks[0])
    off = sum(m.type == 'note_off' for m in piece.tracks[0])
    assert on <= off  # nothing is left sounding


def test_greedy_words_are_what_the_network_says(composer, folder):
    generate.main(['--midi', 'out.mid', '--start', 'C4', '--length', '12', '--temperature', '0'])
    words = most_likely(composer, '00_90_3c50', 12)
    assert len(words) == 13
    assert (folder / 'out.mid').read_bytes() == written(words, composer)


def test_default_temperatures(composer, small_text, capsys):
    def piece(*options):
        generate.main(['--midi', 'out.mid', '--start', 'C4', '--seed', '3', *options])
        return pathlib.Path('out.mid').read_bytes()

    assert piece() == piece('--temperature', '0.7') != piece('--temperature', '1')
    train.main(['--corpus', 'small.txt', *RUN])

    def text(*options):
        capsys.readouterr()
        generate.main(['--start', 'cat', '--seed', '3', *options])
        return capsys.readouterr().out

    assert text() == text('--temperature', '1') != text('--temperature', '0.7')


def test_start(composer, failed):
    generate.main(
        ['--midi', 'out.mid', '--start', '00_90_4050', '60_80_4040', 'A4', '--length', '0']
    )
    assert words_in('out.mid') == ['00_90_4050', '60_80_4040', '00_90_4550', '60_80_4540']
    for start in ('D9', '00_90_4051', 'ホームズ', '00_90_40zz', '<unk>', '<eos>'):
        said = failed(2, generate, '--midi', 'out.mid', '--start', start)
        assert start in said and 'C4 D4 E4 G4 A4' in said and '00_90_3c50' in said


def test_words_near_the_end_of_a_piece(composer, capsys):
    assert run(generate, '--near', '<eos>', '--model', 'result/tune') == 0
    listed = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert listed and set(listed) <= set(checkpoint.load('result/tune/last.npz').vocabulary) - {
        '<eos>'
    }


def test_sampling_options_and_unknown_words(tune, folder):
    write_midi.write_midi(
        write_midi.to_data([*melody([60, 62, 64] * 40), *melody([70])], SETUP), 'rare.mid'
    )
    train.main(['--midi', 'rare.mid', '--min-count', '2', *RUN])
    rare = folder / 'result' / 'rare'

    def piece(*options):
        given = ['--length', '60', '--seed', '3', '--start', 'C4', *options]
        assert run(generate, '--midi', 'out.mid', *given) == 0
        return (folder / 'out.mid').read_bytes()

    words = most_likely(rare, '00_90_3c50', 60)
    greedy = piece('--temperature', '0')
    assert greedy == written(words, rare)
    assert piece('--top-k', '1') == piece('--top-p', '1e-9') == greedy != piece()
    piece('--temperature', '100')  # '<unk>' is never drawn, or writing would fail
    stopped = words[: words.index(words[5], 1) + 1]
    assert piece('--stop', words[5], '--temperature', '0') == written(stopped, rare)


def test_default_lengths(composer, small_text, folder, capsys):
    train.main(['--corpus', 'small.txt', *RUN])

    def piece(seed, *options):
        generate.main(['--midi', 'out.mid', '--start', 'C4', '--seed', str(seed), *options])
        return (folder / 'out.mid').read_bytes()

    def text(*options):
        capsys.readouterr()
        generate.main(['--seed', '0', *options])
        return capsys.readouterr().out

    for seed in range(100):  # the first that does not end its piece before
        if piece(seed, '--length', '499') != piece(seed, '--length', '500'):
            break
    else:
        pytest.fail('no piece of 500 words')
    assert piece(seed) == piece(seed, '--length', '500')
    assert text('--length', '99') != text('--length', '100') == text()


def test_primer_takes_the_track_that_was_learned(folder, capsys):
    train.main(['--midi', 'track1.mid', '--track', '3', *RUN])
    capsys.readouterr()
    assert generate.main(['--midi', 'out.mid', '--primer', 'track1.mid', '--length', '0']) == 0
    assert 'of the first' not in capsys.readouterr().err
    assert all(word.split('_')[1] in ('92', '82') for word in words_in('out.mid'))
    assert generate.main(['--midi', 'again.mid', '--primer', 'out.mid', '--length', '0']) == 0
    assert words_in('again.mid') == words_in('out.mid')[:16]  # it has only one track


def starts(words):
    """The keys (list of str, hex) of the notes that begin."""
    return [word[-4:-2] for word in words if '_90_' in word and not word.endswith('00')]


def test_primer(composer, capsys):
    keys = [60, 62, 64] * 10
    write_midi.write_midi(write_midi.to_data(melody(keys)[:-1], Setup('01e0', {})), 'known.mid')
    known = melody(keys)
    for n, word in enumerate(known):  # 96 of 480 ticks are 19 of 96
        known[n] = word.replace('60_8', '13_8')
    assert generate.main(['--midi', 'out.mid', '--primer', 'known.mid', '--length', '0']) == 0
    assert '8 of the first 16 words' in capsys.readouterr().err
    assert words_in('out.mid') == melody(keys)[:16]  # the nearest words that it knows
    write_midi.write_midi(write_midi.to_data(melody(keys), SETUP), 'known.mid')
    generate.main(['--midi', 'with.mid', '--primer', 'known.mid', '--length', '30', '--seed', '4'])
    assert 'of the first' not in capsys.readouterr().err
    generate.main(
        [
            '--midi',
            'without.mid',
            '--primer',
            'known.mid',
            '--no-primer',
            '--length',
            '30',
            '--seed',
            '4',
        ]
    )
    begun = words_in('with.mid')
    assert begun[:16] == melody(keys)[:16]
    # the same notes begin; those that the primer has begun have no end in the second file
    assert starts(begun)[8:] == starts(words_in('without.mid'))


def test_num_wav_and_plot(composer, folder, capsys):
    assert (
        generate.main(
            [
                '--midi',
                'out.mid',
                '--wav',
                'out.wav',
                '--plot',
                'out.png',
                '--num',
                '2',
                '--length',
                '20',
                '--seed',
                '3',
            ]
        )
        == 0
    )
    for n in (1, 2):
        assert mido.MidiFile(f'out-{n}.mid').length > 0
        assert (folder / f'out-{n}.png').read_bytes().startswith(b'\x89PNG')
        with wave.open(f'out-{n}.wav') as file:
            assert file.getnframes() > 0
    assert capsys.readouterr().out == ''
    assert generate.main(['--audio', 'a.mp3', '--length', '20', '--start', 'C4']) == 0
    assert soundfile.info('a.mp3').format == 'MP3' and soundfile.info('a.mp3').duration > 1
    (folder / 'a.mp3').unlink()
    assert generate.main(['--wav', 'only.wav', '--length', '20', '--start', 'C4']) == 0
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == sorted(
        [
            'only.wav',
            'tune.mid',
            *(f'out-{n}.{end}' for n in (1, 2) for end in ('mid', 'wav', 'png')),
        ]
    )


def test_each_kind_finds_its_newest_model(composer, small_text, capsys, failed):
    train.main(['--corpus', 'small.txt', *RUN])
    capsys.readouterr()
    assert generate.main(['--midi', 'out.mid', '--length', '9', '--start', 'C4']) == 0
    assert 'tune' in capsys.readouterr().err
    assert generate.main(['--length', '9', '--start', 'cat']) == 0
    assert 'small' in capsys.readouterr().err
    text = small_text.parent / 'result' / 'small'
    assert 'model of text' in failed(2, generate, '--midi', 'out.mid', '--model', text)
    assert 'model of music' in failed(2, generate, '--start', 'cat', '--model', composer)
    assert not (small_text.parent / 'nothing.mid').exists()


def test_a_damaged_run_is_passed_over_and_said(composer, capsys):
    (composer.parent / 'newer').mkdir()
    (composer.parent / 'newer' / 'last.npz').write_bytes(b'PK')
    capsys.readouterr()
    assert generate.main(['--midi', 'out.mid', '--start', 'C4']) == 0
    said = capsys.readouterr().err.splitlines()
    assert 'left out: ' in said[0] and 'newer' in said[0] and 'tune' in said[1]


def test_a_run_with_the_other_kind(composer, small_text, failed):
    assert '--corpus or --midi: one of the two' in failed(
        2, train, '--resume', composer, '--corpus', 'small.txt'
    )


def test_names_that_begin_with_a_dash(tune):
    tune.rename(tune.with_name('-d.mid'))
    assert train.main(['--midi=-d.mid', *RUN]) == 0
    assert train.main(['--resume', 'result/-d', '--epoch', '2']) == 0


def test_no_model_of_the_kind(composer, failed):
    said = failed(1, generate, '--start', 'cat')  # but there is one of music
    assert 'result/tune' in said and '--midi out.mid' in said
    (composer / 'last.npz').unlink()
    assert '--corpus holmes.txt' in failed(1, generate, '--start', 'cat')
    assert '--midi track1.mid' in failed(1, generate, '--midi', 'out.mid')


@pytest.mark.parametrize(
    'options, expected, said',
    [
        (['--primer', 'tune.mid'], 2, '--midi'),
        (['--no-primer', '--midi', 'out.mid'], 2, '--no-primer'),
        (['--midi', 'out.mid', '--out', 'x'], 2, '--out'),
        (['--midi', 'out.mid', '--wakati'], 2, '--wakati'),
        (['--midi', 'out.mid', '--start', 'C4', '--primer', 'tune.mid'], 2, '--primer'),
        (['--midi', 'out.mid', '--primer', 'absent.mid'], 1, 'absent.mid'),
        (['--midi', 'out.mid', '--primer', '.'], 2, 'is a folder'),
        (['--midi', 'out.mid', '--stop', '00_90_0000'], 2, '00_90_0000'),
        (['--midi', '.'], 2, "'.'"),
        (['--midi', ''], 2, "''"),
        (['--wav', '/'], 2, "'/'"),
        (['--midi', 'a', '--wav', './a'], 2, 'file of its own'),
        (['--midi', 'out.wav'], 2, 'end in .mid'),
        (['--wav', 'a.mp3'], 2, 'end in .wav'),
        (['--audio', 'a.aac'], 2, '.wav or .flac or .ogg or .mp3'),
        (['--audio', 'a'], 2, '.mp3'),
        (['--audio', './a.wav', '--wav', 'a.wav'], 2, 'file of its own'),
        (['--audio', 'a.mp3', '--soundfont', 'absent.sf2'], 2, 'absent.sf2'),
        (['--midi', 'out.mid', '--soundfont', 'a.sf2'], 2, '--audio'),
        (['--plot', 'out.pdf'], 2, 'end in .png'),
        (['--midi', 'tune.mid', '--primer', 'tune.mid'], 2, 'file of its own'),
        (['--midi', 'x.mid', '--num', '2', '--primer', 'x-1.mid'], 2, 'file of its own'),
    ],
)
def test_wrong_calls_of_generate(composer, failed, options, expected, said):
    assert said in failed(expected, generate, *options)


def test_a_piece_without_a_note(composer, capsys):
    capsys.readouterr()
    assert run(generate, '--midi', 'out.mid', '--length', '0', '--num', '2') == 1
    assert [line for line in capsys.readouterr().err.splitlines() if '--seed' in line][1:] == [
        f'generate.py: the model ended piece {n} before its first note; '
        'try another --seed or a larger --length'
        for n in (1, 2)
    ]
    assert not list(composer.parent.parent.glob('out*'))


def test_a_folder_that_does_not_exist(composer, capsys, failed):
    capsys.readouterr()
    assert 'no folder absent' in failed(2, generate, '--midi', 'absent/out.mid', '--start', 'C4')


def strange(composer, **fields):
    """A checkpoint odd.npz, as from a stranger, with other fields."""
    shutil.copy(composer / 'last.npz', 'odd.npz')
    forge('odd.npz', fields)


@pytest.mark.parametrize(
    'setup',
    [
        {'division': '0000', 'events': {}},
        {'division': '0060', 'events': {'c0': 'ff2f00'}},
        {'division': '0060', 'events': 3},
        {'division': '0060'},
        {},
        {'division': '0060', 'events': {}, 'longest': 'x'},
    ],
)
@pytest.mark.parametrize('start', [['--start', 'C4'], ['--primer', 'tune.mid']])
def test_a_strangers_setup(composer, capsys, setup, start):
    strange(composer, setup=setup)
    assert run(generate, '--midi', 'out.mid', '--model', 'odd.npz', *start) == 1
    assert 'impossible' in capsys.readouterr().err.splitlines()[-1]


def test_a_strangers_words(composer, capsys, failed):
    saved = checkpoint.load(composer / 'last.npz')
    words = [f'word{n}' for n in range(len(saved.vocabulary))]
    strange(composer, vocabulary=['<eos>', *words[1:]])
    assert run(generate, '--midi', 'out.mid', '--model', 'odd.npz', '--seed', '0') == 1
    assert 'not a music word' in capsys.readouterr().err.splitlines()[-1]
    assert 'no music word' in failed(
        1, generate, '--midi', 'out.mid', '--model', 'odd.npz', '--primer', 'tune.mid'
    )
    strange(composer, vocabulary=words)
    assert '<eos>' in failed(1, generate, '--midi', 'out.mid', '--model', 'odd.npz')


def test_music_without_its_setup_is_no_checkpoint(composer, failed):
    strange(composer, setup=None)
    argv = ['--midi', 'out.mid', '--model', 'odd.npz']
    assert 'odd.npz: not a checkpoint of this program' in failed(1, generate, *argv)
