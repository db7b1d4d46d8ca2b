"""The network of the article: an embedding, two LSTM layers, a softmax.

    x (B,) ids ► l0 ► l1_x ─dropout─► + ► LSTM 1 ► l2_x ─dropout─► + ► LSTM 2 ► l3 ► (B, n_vocab)
                          l1_h(h1) ───┘                  l2_h(h2) ───┘

As in the article, dropout sits on the output of the projections l1_x and
l2_x, 4 * n_units wide, and never on the way from one step to the next
(Zaremba et al. 2014, https://arxiv.org/abs/1409.2329).

A whole program in the manner of Karpathy's "y = rnn.step(x)":

    rnn = RNN(n_vocab=7000, n_units=256)
    x = [42]
    for _ in range(10):
        y = rnn.step(x)
        x = y.argmax(axis=1)
"""
import modern_chainer  # noqa: F401  prepares chainer's import

import chainer
import chainer.functions as F
import chainer.links as L
from chainer import backend


class RNN(chainer.Chain):
    """Two-layer LSTM language model for one time step at a time.

    n_vocab (int) is the number of different words, n_units (int) the width of
    the embedding and of both layers. Initial values are Chainer's defaults.

    `state` is a dict of the Variables c1, h1, c2, h2, each (B, n_units)
    float32 on the model's device, or None before the first step.
    """

    def __init__(self, n_vocab, n_units):
        super().__init__()
        self.n_units = n_units
        self.state = None
        with self.init_scope():
            self.l0 = L.EmbedID(n_vocab, n_units)
            self.l1_x = L.Linear(n_units, 4 * n_units)
            self.l1_h = L.Linear(n_units, 4 * n_units)
            self.l2_x = L.Linear(n_units, 4 * n_units)
            self.l2_h = L.Linear(n_units, 4 * n_units)
            self.l3 = L.Linear(n_units, n_vocab)

    def initialize_state(self, batchsize=50):
        """Forgets everything read so far: `batchsize` rows of zeros."""
        with chainer.using_device(self.device):
            self.state = {
                name: chainer.Variable(self.xp.zeros((batchsize, self.n_units), 'f'))
                for name in ('c1', 'h1', 'c2', 'h2')}

    def forward(self, x, t=None, dropout_ratio=0.5):
        """Reads one word in each row, moves the state on, predicts the next one.

        x: (B,) int32 ids; t: (B,) int32 ids of the words that really follow.
        With t: (loss, accuracy), two float32 scalars, the mean over the B rows
        of softmax cross entropy (nats) and of "the likeliest word is t".
        Without t: (softmax (B, n_vocab) Variable, logits (B, n_vocab) array).
        Dropout acts only while chainer.config.train is True.
        """
        if self.state is None:
            self.initialize_state(len(x))
        state = self.state
        h0 = self.l0(x)
        h1_in = F.dropout(self.l1_x(h0), dropout_ratio) + self.l1_h(state['h1'])
        c1, h1 = F.lstm(state['c1'], h1_in)
        h2_in = F.dropout(self.l2_x(h1), dropout_ratio) + self.l2_h(state['h2'])
        c2, h2 = F.lstm(state['c2'], h2_in)
        y = self.l3(h2)
        self.state = {'c1': c1, 'h1': h1, 'c2': c2, 'h2': h2}
        if t is None:
            return F.softmax(y), y.array
        return F.softmax_cross_entropy(y, t), F.accuracy(y, t)

    def step(self, x):
        """Reads one word in each row and returns the logits of the next one.

        x: (B,) integer ids, a list or an array. Returns (B, n_vocab) float32,
        an array on the model's device. No dropout, and no graph is built.
        ValueError if the state has another number of rows.
        """
        if self.state is None:
            self.initialize_state(len(x))
        xp, state = self.xp, {name: variable.array for name, variable in self.state.items()}
        if len(x) != len(state['h1']):
            raise ValueError(f"{len(x)} words for a state of {len(state['h1'])} rows")
        with chainer.using_device(self.device):
            h = self.l0.W.array[xp.asarray(x)]
            for k, l_x, l_h in (('1', self.l1_x, self.l1_h), ('2', self.l2_x, self.l2_h)):
                gates = h @ l_x.W.array.T + state['h' + k] @ l_h.W.array.T + (l_x.b.array + l_h.b.array)
                a, i, f, o = gates.reshape(len(h), -1, 4).transpose(2, 0, 1)
                state['c' + k] = sigmoid(f) * state['c' + k] + sigmoid(i) * xp.tanh(a)
                state['h' + k] = h = sigmoid(o) * xp.tanh(state['c' + k])
            self.state = {name: chainer.Variable(array) for name, array in state.items()}
            return h @ self.l3.W.array.T + self.l3.b.array

    def device_resident_accept(self, visitor):
        """Lets the state move with the weights (to_device, to_gpu, to_cpu)."""
        super().device_resident_accept(visitor)
        for variable in (self.state or {}).values():
            visitor.visit_variable(variable)


def sigmoid(x):
    return backend.get_array_module(x).tanh(x * .5) * .5 + .5
