"""An interpolated n-gram model, for comparison with the network: nottingham.py and judge.py.

    model = NGrams(ids, n_vocab)
    p = model.probabilities(model.look_up(test), model.discounts())     # of the words test[1:]

Absolute discounting (Ney, Essen and Kneser 1994): of each n-gram that was counted, a discount is
taken off and goes to the model of the next lower order, the lowest of which is uniform. With
Kneser and Ney (1995), the lower orders count how many different words stand before an n-gram.

An n-gram has a number: its place among the sorted keys of its order, each of them the number of
the n-gram without its last word (its context), and that word. So two million words take seconds.
"""

import numpy

ORDER = 5


class NGrams:
    """Counts of n-grams, orders 1 to ORDER, in ids (N,), numbers from 0 to n_vocab - 1.

    continuation: whether the lower orders count different words before, or occurrences.
    """

    def __init__(self, ids, n_vocab, continuation=True):
        ids = numpy.asarray(ids, 'i8')
        self.n_vocab, self.keys, self.count = n_vocab, [], []
        contexts = shorter = numpy.zeros(len(ids), 'i8')  # one, of no word
        for n in range(ORDER):
            keys, first, grams, count = numpy.unique(
                contexts * n_vocab + ids[n:],
                return_index=True,
                return_inverse=True,
                return_counts=True,
            )
            if n and continuation:
                self.count[-1] = numpy.bincount(shorter[first + 1], minlength=len(self.keys[-1]))
            self.keys.append(keys)
            self.count.append(count)
            shorter, contexts = grams, grams[:-1]  # that end at each word, but the first n
        contexts = [1, *map(len, self.keys)]
        self.total, self.kinds = [], []
        for keys, count, size in zip(self.keys, self.count, contexts):
            self.total.append(numpy.bincount(keys // n_vocab, count, size))
            self.kinds.append(numpy.bincount(keys // n_vocab, count > 0, size))
        for tables in (self.count, self.total, self.kinds):  # what was never seen has number -1
            tables[:] = [numpy.append(table, 0) for table in tables]
        self.keys = [numpy.append(keys, numpy.iinfo('i8').max) for keys in self.keys]

    def look_up(self, ids):
        """(3, ORDER, N - 1) counts of n-gram, context and its different successors for ids[1:]."""
        ids = numpy.asarray(ids, 'i8')
        table = numpy.zeros((3, ORDER, len(ids)))
        contexts = numpy.zeros(len(ids), 'i8')
        for n, keys in enumerate(self.keys[: len(ids)]):
            key = contexts * self.n_vocab + ids[n:]
            places = numpy.searchsorted(keys, key)
            grams = numpy.where(keys[places] == key, places, -1)
            table[:, n, n:] = self.count[n][grams], self.total[n][contexts], self.kinds[n][contexts]
            contexts = grams[:-1]
        return table[:, :, 1:]

    def discounts(self):
        """Of each order, estimated from what occurs once or twice (Ney, Essen and Kneser 1994)."""
        ones, twos = ([numpy.count_nonzero(count == k) for count in self.count] for k in (1, 2))
        return [one / max(1, one + 2 * two) for one, two in zip(ones, twos)]

    def probabilities(self, table, discounts):
        """(N,) float64: of the words that `table` was looked up for."""
        p = numpy.full(table.shape[2], 1 / self.n_vocab)
        for (count, total, kinds), discount in zip(table.transpose(1, 0, 2), discounts):
            known = numpy.maximum(total, 1)
            interpolated = numpy.maximum(count - discount, 0) / known + discount * kinds / known * p
            p = numpy.where(total > 0, interpolated, p)
        return p

    def perplexity(self, table, discounts):
        """Of the words that `table` was looked up for."""
        return numpy.exp(-numpy.log(self.probabilities(table, discounts)).mean())
