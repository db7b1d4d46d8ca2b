"""bench/judge.py and its n-grams against counting by hand and against slow, plain counting."""

import argparse
import collections
import math

import hypothesis
import numpy
import pytest
from hypothesis import strategies

from bench import judge
from bench.ngrams import ORDER, NGrams
from support.source import CorpusError

IDS = strategies.lists(strategies.integers(0, 3), min_size=1, max_size=40)


def test_a_judge_who_knows_every_word_is_refused():
    with pytest.raises(CorpusError, match='too little for a judge'):
        judge.Judge([['a', 'b', 'a', 'b']])


def test_two_words_by_hand():
    a, b, c = range(3)
    model = NGrams([a, b, a, c], 3, continuation=False)
    # Alone b has (1 - 0.5) / 4 + 0.5 * 3 / 4 of a third; after a, (1 - 0.5) / 2 + 0.5 of that.
    p = model.probabilities(model.look_up([a, b]), [0.5] * ORDER)
    assert p.tolist() == [0.375]
    # Kneser-Ney: before each word stands one other, 0.5 / 3 + 0.5 of a third; before ab nothing,
    # and before ac one word, so ab has 0.5 of what b has.
    model = NGrams([a, b, a, c], 3)
    p = model.probabilities(model.look_up([a, b]), [0.5] * ORDER)
    assert p == pytest.approx([1 / 6])
    assert model.perplexity(model.look_up([a, b]), [0.5] * ORDER) == pytest.approx(6)


def test_discounts_by_hand():
    model = NGrams([0, 0, 1, 0, 0, 2], 3, continuation=False)
    # 1 and 2 occur once, 0 four times; 00 twice, 01 10 02 once; longer ones once, 4 to 2 of them,
    # but 1 0 0 and 0 0 1 and so on differ, so each is there once
    assert model.discounts() == pytest.approx([1, 3 / 5, 1, 1, 1])


def plain(learned, history, word, discounts, n_vocab, continuation):
    """The probability of a word after a history, by the formula, with lists and loops only."""
    if not discounts:
        return 1 / n_vocab
    n = len(discounts)
    lower = plain(learned, history, word, discounts[:-1], n_vocab, continuation)
    if len(history) < n - 1:
        return lower
    context = history[len(history) - n + 1 :]
    if continuation and n < ORDER:
        longer = {tuple(learned[i : i + n + 1]) for i in range(len(learned) - n)}
        grams = collections.Counter(gram[1:] for gram in longer)
    else:
        grams = collections.Counter(tuple(learned[i : i + n]) for i in range(len(learned) - n + 1))
    after = {gram[-1]: count for gram, count in grams.items() if list(gram[:-1]) == context}
    if not after:
        return lower
    total = sum(after.values())
    own = max(0, after.get(word, 0) - discounts[-1]) / total
    return own + discounts[-1] * len(after) / total * lower


@hypothesis.given(IDS, IDS, strategies.booleans())
def test_the_same_by_plain_counting(learned, read, continuation):
    discounts = [0.1, 0.3, 0.5, 0.7, 0.9]
    model = NGrams(learned, 5, continuation)
    found = model.probabilities(model.look_up(read), discounts)
    expected = [
        plain(learned, read[:i], read[i], discounts, 5, continuation) for i in range(1, len(read))
    ]
    assert found == pytest.approx(expected, rel=1e-12)


@hypothesis.given(IDS, IDS)
def test_probabilities_of_all_words_sum_to_one(learned, read):
    model = NGrams(learned, 5)
    tables = (model.look_up([*read, word]) for word in range(5))
    assert sum(model.probabilities(t, [0.5] * ORDER)[-1] for t in tables) == pytest.approx(1)


def test_unknown_words_share_what_unk_has():
    """All words, those that occurred once as well, sum to one: nothing unknown is cheaper."""
    text = 'the cat saw the dog and the dog saw the bird and the fox'.split()
    critic = judge.Judge([text])
    assert critic.known == {'the', 'saw', 'dog', 'and'}
    once = ['cat', 'bird', 'fox']
    p = {word: math.exp(-critic.nats(['and', 'the', word])[-1]) for word in {*text}}
    assert sum(p.values()) == pytest.approx(1)
    assert len({p[word] for word in once}) == 1
    assert critic.nats(['and', 'the', 'never']) == pytest.approx(critic.nats(['and', 'the', 'fox']))


def test_sentences_are_cut_as_samples_are():
    words = '「 x 。 」 <eos> \u3000 x y 。 x z <eos> w 。 y x 。 x'.split(' ')
    start_x = argparse.Namespace(start='x', stop='。')
    found = [''.join(sentence) for sentence in judge.sentences(words, start_x)]
    assert found == ['xy。', 'xz<eos>w。', 'x']
    anything = argparse.Namespace(start=None, stop='。')
    assert len([*judge.sentences(words, anything)]) == 6
    assert [len(s) for s in judge.sentences(['x'] * 300, start_x)] == [judge.LONGEST]


@pytest.mark.parametrize(
    'text, whole',
    [('「a（b）」『』', True), ('「', False), ('」', False), ('「（」）', False), ('', True)],
)
def test_brackets(text, whole):
    assert judge.match(list(text)) is whole


def test_distinct_ngrams_do_not_go_on_into_the_next_text():
    texts = [['a', 'b']] * 600
    assert judge.distinct(texts, 1) == 2 / 1000
    assert judge.distinct(texts, 2) is None  # there are 600, all of them ab


def test_copied_ngrams_do_not_go_on_into_the_next_text():
    longest, shares = judge.copied([list('abc'), list('dex'), list('bcde')], list('abcdefg'))
    assert longest == 4
    assert shares == [pytest.approx(3 / 4), 1, None]  # abc bcd cde, not dex; bcde


def test_the_error_of_texts_of_equal_length_is_that_of_their_means():
    nats = numpy.random.RandomState(0).normal(size=(20, 7))
    mean, error = judge.mean_and_error([*nats])
    assert mean == pytest.approx(nats.mean())
    assert error == pytest.approx(nats.mean(axis=1).std(ddof=1) / math.sqrt(20))


def test_the_table(folder, capsys):
    (folder / 'texts').mkdir()
    (folder / 'learned.txt').write_text('the cat saw the dog .\nthe dog ran off .\n')
    (folder / 'texts/same.txt').write_text('the cat saw the dog .\nthe dog ran off .\n')
    (folder / 'texts/other.txt').write_text('the cow ran .\nthe cow saw the sea .\n')
    (folder / 'held.txt').write_text('the cow saw the cat . but the cow ran .\n')
    (folder / 'written.txt').write_text('the cow ran .\n\nthe\n\nthe cat saw the moon .\n')
    argv = 'learned.txt written.txt --texts texts --held-out held.txt --start the --stop .'
    assert judge.main(argv.split()) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith('the judge has read 1 texts: 12 words, 4 of them')  # not the sea
    rows = {line[:24].strip(): line[24:].split() for line in out[3:]}
    assert [rows[name][0] for name in rows] == ['1', '1', '2', '2']
    critic = judge.Judge(
        [['the', 'cow', 'ran', '.', '<eos>', *'the cow saw the sea . <eos>'.split()]]
    )
    texts = ['the cow ran .'.split(), 'the cat saw the moon .'.split()]
    nats = numpy.concatenate([critic.nats(text) for text in texts])
    written = rows['written.txt']
    assert written[1] == '5.0' and float(written[3]) == pytest.approx(nats.mean(), abs=5e-4)
    assert written[6:] == ['50.0%', '-', '-', '-', '4', '33.3%', '25.0%', '0.0%', '100.0%']


def test_nothing_to_read(folder, capsys):
    argv = 'holmes.txt holmes.txt --texts holmes.txt --held-out holmes.txt'.split()
    assert judge.main(argv) == 1
    assert 'neither learned nor held out' in capsys.readouterr().err
