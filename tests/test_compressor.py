"""The neural history compressor: its definition, its fast path, and a run of it from begin to end."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cells import assert_same, gradients, loss_of
from test_training import SMALL, files_equal, losses, run_events, text  # noqa: F401
from torch import nn
from torch.nn.functional import cross_entropy

import charrnn
from charrnn.config import ModelConfig
from charrnn.events import StepEvent
from charrnn.model import holds
from charrnn.model.holds import Held, held_losses
from charrnn.model.network import new_network
from charrnn.model.regularisation import Pull, bernoulli
from charrnn.model.visits import find_visits
from charrnn.sampling import SamplingConfig, Speaker
from charrnn.text.vocabulary import Vocabulary
from charrnn.training import start

VOCAB, HIDDEN = 4, 7
RUN = {"model.cell": "compressor", "model.num_layers": 1}


def network_of(layers=2, embedding=0, dropout=0.0, **levers):
    config = ModelConfig("compressor", HIDDEN, layers, embedding, dropout, **levers)
    return new_network(config, VOCAB, seed=3).double()


def window(network, resets, batch=5, length=17):
    """Few symbols, so that many are expected; a state that somebody carried."""
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(1, VOCAB, (batch, length), generator=random)
    ids[torch.rand(batch, length, generator=random) < resets] = 0
    *layers, (skipped,) = network.initial_state(batch)
    state = [tuple(torch.randn(p.shape, generator=random, dtype=p.dtype) for p in layer) for layer in layers]
    return ids, (*state, (torch.arange(batch, dtype=skipped.dtype).unsqueeze(1),))


def flat(state):
    return [part for layer in state for part in layer]


def cells_of(network):
    """torch.nn's own cells with the network's weights, level 1 then level 2."""
    found = []
    for layer in network.layers:
        cell = nn.LSTMCell(layer.input_size, HIDDEN).double()
        cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
        found.append(cell)
    return found[: len(found) // 2], found[len(found) // 2 :]


def slow_row(network, ids, state):
    """One row by the paper's rule with torch.nn's cells: logits, the state after, and what level 2 read."""
    lower, upper = cells_of(network)
    count = len(lower)
    states, skipped, logits, read = (
        [tuple(p.clone() for p in s) for s in state[:-1]],
        float(state[-1][0]),
        [],
        [],
    )
    for symbol in ids.tolist():
        expected = int((network.predictor.weight @ states[count - 1][0] + network.predictor.bias).argmax())
        if symbol == 0:
            states, skipped = [tuple(torch.zeros_like(p) for p in s) for s in states], 0.0
        given = inputs = network.inputs(torch.tensor(symbol))
        for n, cell in enumerate(lower):
            states[n] = cell(inputs, states[n])
            inputs = states[n][0]
        if symbol == 0 or symbol != expected:
            inputs = torch.cat([torch.tensor([math.log(1 + skipped)], dtype=torch.float64), given])
            for n, cell in enumerate(upper, start=count):
                states[n] = cell(inputs, states[n])
                inputs = states[n][0]
            skipped = 0.0
        else:
            skipped += 1
        read.append(skipped == 0)
        top = torch.cat([states[count - 1][0], states[-1][0]])
        logits.append(network.readout.weight @ top + network.readout.bias)
    return torch.stack(logits), [*flat(states), torch.tensor([skipped], dtype=torch.float64)], read


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("embedding", [0, 3])
@pytest.mark.parametrize("resets", [0.0, 0.2])
def test_definition_is_the_rule_of_the_paper(layers, embedding, resets):
    network = network_of(layers, embedding)
    ids, state = window(network, resets)
    logits, after = network.reference(ids, state)
    reads = []
    for row in range(len(ids)):
        own = tuple(tuple(part[row] for part in layer) for layer in state)
        expected, expected_after, read = slow_row(network, ids[row], own)
        torch.testing.assert_close(logits[row], expected)
        assert_same([part[row] for part in flat(after)], expected_after)
        reads += read
    assert 0.2 < np.mean(reads) < 0.95  # the text has both kinds of symbols


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("resets", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("embedding", [0, 3])
def test_fast_path_equals_the_definition_with_documents_that_begin_anywhere(layers, resets, embedding):
    network = network_of(layers, embedding)
    ids, state = window(network, resets)
    found = []
    for run in (network, network.reference):
        own = tuple(tuple(part.clone().requires_grad_() for part in layer) for layer in state[:-1])
        logits, after = run(ids, (*own, state[-1]))
        weights = [p for n, p in network.named_parameters() if "predictor" not in n]  # decides, yes or no
        found.append(
            ([logits, *flat(after)], gradients(loss_of(logits, flat(after)), [*weights, *flat(own)]))
        )
    assert_same(found[0][0], found[1][0])
    assert_same(found[0][1], found[1][1])


@torch.no_grad()
@pytest.mark.parametrize("expected", ["everything", "nothing"])
def test_level_2_stands_still_where_all_is_expected_and_never_where_nothing_is(expected):
    network = network_of(1)
    network.predictor.weight.zero_()
    network.predictor.bias.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0]))
    ids, state = window(network, 0.0)
    ids.fill_(1 if expected == "everything" else 2)
    _, after = network(ids, state)
    assert_same(flat(after), flat(network.reference(ids, state)[1]))
    if expected == "everything":
        assert_same(after[1], state[1])
        assert torch.equal(after[2][0], state[2][0] + 17)
    else:
        assert not torch.equal(after[1][0], state[1][0]) and not after[2][0].any()


@torch.no_grad()
def test_level_2_reads_the_begin_of_a_document_whatever_was_expected():
    network = network_of(1)
    network.predictor.weight.zero_()
    network.predictor.bias.copy_(torch.tensor([9.0, 0.0, 0.0, 0.0]))
    start = torch.zeros(2, 1, dtype=torch.long)
    for run in (network, network.reference):
        _, after = run(start, network.initial_state(2))
        assert after[1][0].all() and not after[2][0].any()


@torch.no_grad()
def test_two_windows_equal_one_and_single_steps():
    network = network_of()
    ids, state = window(network, 0.1)
    whole, after = network(ids, state)
    first, between = network(ids[:, :6], state)
    second, end = network(ids[:, 6:], between)
    assert_same([whole, *flat(after)], [torch.cat([first, second], 1), *flat(end)])
    for t in range(ids.shape[1]):
        logits, state = network.step(ids[:, t], state)
        torch.testing.assert_close(logits, whole[:, t])


@torch.no_grad()
def test_a_document_does_not_see_the_one_before():
    network = network_of()
    ids, state = window(network, 0.0)
    ids[:, 6] = 0
    changed = ids.clone()
    changed[:, :6] = changed[:, :6] % (VOCAB - 1) + 1
    first, second = network(ids, state)[0], network(changed, state)[0]
    torch.testing.assert_close(first[:, 6:], second[:, 6:])
    assert not torch.allclose(first[:, :6], second[:, :6])


@pytest.mark.parametrize("pull", [Pull(0.0, 0.0), Pull(2.0, 3.0)])
def test_the_loss_is_that_of_the_logits_and_its_gradient_that_of_both_predictions(pull):
    network = network_of()
    ids, state = window(network, 0.1)
    targets = ids.roll(-1, 1)
    loss, _ = network.loss(ids, targets, state, None, pull)
    weights = list(network.parameters())
    found = gradients(loss, weights)
    hidden, _ = network.hidden(ids, state)
    wanted = targets.t().flatten()
    joint = cross_entropy(network.readout(hidden).flatten(0, 1), wanted)
    own = cross_entropy(network.predictor(hidden[..., :HIDDEN]).flatten(0, 1), wanted)
    before = torch.cat([state[1][0], state[3][0]], dim=1)
    changes = (hidden - torch.cat([before[None], hidden[:-1]])) * (ids.t() != 0)[..., None]
    costs = pull.size * hidden.square().mean() + pull.change * changes.square().mean()
    assert loss.item() == joint.item()
    assert_same(found, gradients(joint + own + costs, weights))


@torch.no_grad()
@pytest.mark.parametrize("embedding", [0, 3])
def test_what_is_dropped_of_a_symbol_is_dropped_for_both_levels(embedding):
    network = network_of(2, embedding, input_dropout=0.4)
    ids, state = window(network, 0.1)
    found, after = network.hidden(ids, state, torch.Generator().manual_seed(1))
    rows = network.inputs(ids.t())
    rows = rows * bernoulli(rows, 0.6, torch.Generator().manual_seed(1)) / 0.6
    timesteps = iter(rows)
    network.inputs = lambda symbols: next(timesteps)
    expected, expected_after = network.reference_hidden(ids, state)
    assert_same([found, *flat(after)], [expected, *flat(expected_after)])


def test_dropout_is_a_function_of_its_generator_in_both_levels():
    network = network_of(2, dropout=0.5)
    ids, state = window(network, 0.1)
    with torch.no_grad():
        first, same, other = (
            network.hidden(ids, state, torch.Generator().manual_seed(s))[0] for s in (1, 1, 2)
        )
    assert torch.equal(first, same)
    for level in (slice(0, HIDDEN), slice(HIDDEN, None)):
        assert not torch.equal(first[..., level], other[..., level])


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_visits_pack_and_spread_what_a_loop_does(share):
    random = torch.Generator().manual_seed(int(10 * share))
    taken, values = torch.rand(9, 6, generator=random) < share, torch.randn(9, 6, 2, generator=random)
    reset = taken & (torch.rand(9, 6, generator=random) < 0.2)
    state = torch.randn(6, 2, generator=random)
    visits = find_visits(taken, reset)
    spread, expected = visits.spread(visits.pack(values), state), torch.empty(9, 6, 2)
    pieces = 0
    for b in range(6):
        newest = state[b]
        for t in range(9):
            newest = values[t, b] if taken[t, b] else newest
            pieces += int(reset[t, b] or (taken[t, b] and not taken[:t, b].any()))
            expected[t, b] = newest
    assert torch.equal(spread, expected)
    assert len(visits.rows) == pieces and int(visits.batch_sizes.sum()) == int(taken.sum())


# -- inspection -----------------------------------------------------------------------------------


@torch.no_grad()
def test_trace_repeats_what_the_steps_do():
    network = network_of()
    ids, state = window(network, 0.2)
    traces, after = network.trace(ids, state)
    assert_same(flat(after), flat(network.reference(ids, state)[1]))
    for t in range(ids.shape[1]):
        before, (_, state) = state, network.step(ids[:, t], state)
        for trace, layer_state in zip(traces, state, strict=False):
            assert_same([trace["h"][t], trace["c"][t]], layer_state)
        trace, row = traces[2], state[-1][0].squeeze(1) == 0  # level 2 read: its gates led to its cell
        c = trace["f"][t] * before[2][1] * (ids[:, t] != 0).unsqueeze(1) + trace["i"][t] * trace["g"][t]
        torch.testing.assert_close(trace["c"][t][row], c[row])
    assert set(traces[0]) == {"h", "c", "i", "f", "g", "o"}


@torch.no_grad()
@pytest.mark.parametrize("layer", [1, 2])
def test_held_neurons_cost_what_holding_them_step_by_step_costs(monkeypatch, layer):
    monkeypatch.setattr(holds, "WINDOW", 10)
    network = network_of(1)
    ids = torch.randint(1, VOCAB, (3, 25), generator=torch.Generator().manual_seed(0))
    values_over_time = torch.linspace(-0.9, 0.9, 25, dtype=torch.float64)
    held, now = Held(layer, "c", 2, values_over_time.expand(3, -1)), [0]
    found = held_losses(network, ids, [[], [held]])

    def keep(number):
        def hold(kind, values):
            if (number, kind) == (layer, "c"):
                values[:, 2] = values_over_time[now[0]].atanh()
            return values

        return hold

    for own, hold in zip(found, (lambda number: lambda kind, values: values, keep), strict=True):
        state, now[0] = network.initial_state(3), 0
        _, state = network.step(torch.zeros(3, dtype=torch.long), state, hold)
        for t in range(24):
            now[0] = t
            logits, state = network.step(ids[:, t], state, hold)
            torch.testing.assert_close(own[:, t], cross_entropy(logits, ids[:, t + 1], reduction="none"))
    assert not torch.allclose(found[0], found[1], atol=1e-4)


# -- a run ----------------------------------------------------------------------------------------


def test_speaking_draws_from_the_logits_of_the_forward_pass():
    network = network_of().eval()
    speaker = Speaker(network, Vocabulary.of_chars([97, 98]), SamplingConfig())
    drawn = speaker.drawn("ab", 1)
    ids, logits = zip(*(next(drawn) for _ in range(30)), strict=True)
    read = torch.tensor([[0, 2, 3, *ids[:-1]]])
    expected = network(read, network.initial_state(1))[0][0, 2:]
    allowed = np.isfinite(np.stack(logits))
    np.testing.assert_allclose(np.stack(logits)[allowed], expected.detach().numpy()[allowed], atol=1e-10)


def test_a_run_repeats_and_resumes_bit_identically(text, tmp_path):  # noqa: F811
    run_events(text, tmp_path / "whole", **RUN)
    trainer = start.start([text], run=str(tmp_path / "cut"), settings=SMALL | RUN, device="cpu")
    for event in trainer.events():
        if isinstance(event, StepEvent) and event.step == 9:
            trainer.request_stop()
    list(start.resume(str(tmp_path / "cut"), device="cpu").events())
    for name in ("last/model.safetensors", "last/trainer.safetensors", "best/model.safetensors"):
        files_equal(tmp_path / "whole", tmp_path / "cut", name)
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")


def test_it_is_evaluated_and_inspected_like_any_other(text, tmp_path):  # noqa: F811
    *_, end = run_events(text, tmp_path / "run", **RUN)
    run = charrnn.load(tmp_path / "run", device="cpu")
    assert run.evaluate(baselines=False).loss == pytest.approx(end.best_val_loss, abs=1e-9)
    again = run.evaluate(baselines=False, dynamic=True)
    assert again.loss == pytest.approx(end.best_val_loss, abs=1e-9)
    assert math.isfinite(again.dynamic.loss) and again.dynamic.loss != again.loss
    assert len(run.sample(30, hold="L2.c3=0.5")) == 30
    subject = run.subject(texts=[text], hypotheses=("is_space", "column"))
    findings = run.inspect_neurons(subject=subject, neuron="L2.c7", top=30)
    assert findings.neurons_tested == 2 * SMALL["model.hidden_size"]
    named = {name for row in findings.rows for name, _ in row.runners_up}
    assert {name[:2] for name in named} == {"L1", "L2"}
    json.dumps(findings.to_json())
    gates = run.inspect_gates(subject=subject)
    assert {gate.layer for gate in gates.trained.gates} == {1, 2}
    assert run.inspect_page(subject, findings).next_probs.any()


def test_a_warm_start_keeps_what_the_symbols_meant(text, tmp_path):  # noqa: F811
    run_events(text, tmp_path / "run", **RUN | {"model.embedding_size": 0})
    other = tmp_path / "other.txt"
    other.write_text("Ünd nun? " + Path(text).read_text(encoding="utf-8"), encoding="utf-8")
    trainer = start.start(
        [str(other)], run=str(tmp_path / "b"), init_from=str(tmp_path / "run"), device="cpu"
    )
    old = charrnn.load(tmp_path / "run", device="cpu").network
    width = old.vocab_size + 1
    assert trainer.network.vocab_size > old.vocab_size
    assert torch.equal(trainer.network.layers[1].weight_ih_l0[:, :width], old.layers[1].weight_ih_l0)
