"""Our nucleus sampling draws from the distribution that top-p defines, whatever is in the batch."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("vllm")


@pytest.fixture(scope="module")
def nucleus():
    from usersim.engines import nucleus

    return nucleus


def expected(logits, temperature, top_p):
    """Probabilities of the smallest set of likeliest tokens that reaches `top_p`, by the book."""
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    ranked, order = probabilities.sort(descending=True)
    kept = ranked.cumsum(-1) - ranked < top_p
    out = torch.zeros_like(probabilities)
    out[order[kept]] = ranked[kept]
    return out / out.sum()


def drawn(nucleus, logits, temperature, top_p, times):
    draws = [nucleus.Draw(temperature, top_p, seed, []) for seed in range(times)]
    return nucleus.draw_tokens(logits.expand(times, -1).clone(), draws)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 0.9), (0.7, 0.9), (1.5, 0.5), (1.0, 1.0)])
@pytest.mark.parametrize("spread", [2, 30])  # 30: no window but the whole vocabulary holds all
def test_tokens_come_as_often_as_their_probability_says(nucleus, temperature, top_p, spread):
    logits = torch.randn(60, generator=torch.Generator().manual_seed(3)) * spread
    want = expected(logits, temperature, top_p)
    times = 20_000
    tokens = drawn(nucleus, logits, temperature, top_p, times)
    seen = torch.bincount(tokens, minlength=60).double() / times
    assert set(tokens.tolist()) <= set(want.nonzero()[:, 0].tolist())
    # Four standard errors of a frequency, and one draw's worth of grace for the rarest.
    assert ((seen - want).abs() <= 4 * (want * (1 - want) / times).sqrt() + 1 / times).all()


def test_flat_and_large_vocabularies_have_their_exact_nucleus(nucleus):
    logits = torch.randn(5000, generator=torch.Generator().manual_seed(5)) * 0.5
    nucleus_of = set(expected(logits, 1.0, 0.6).nonzero()[:, 0].tolist())
    seen = set(drawn(nucleus, logits, 1.0, 0.6, 30_000).tolist())
    assert seen <= nucleus_of
    assert len(seen) > 0.95 * len(nucleus_of)


def test_equal_tokens_at_the_edge_make_the_smallest_set(nucleus):
    assert len(set(drawn(nucleus, torch.zeros(1000), 1.0, 0.2505, 20_000).tolist())) == 251


def test_a_draw_depends_on_its_seed_and_position_only(nucleus):
    logits = torch.randn(3, 200, generator=torch.Generator().manual_seed(7))
    draws = [nucleus.Draw(1.0, 0.9, seed, [0] * seed) for seed in range(3)]
    together = nucleus.draw_tokens(logits, draws)
    alone = [nucleus.draw_tokens(logits[i : i + 1], [draws[i]])[0] for i in range(3)]
    assert together.tolist() == [int(token) for token in alone]
    numbers = {nucleus.Draw(1.0, 0.9, s, [0] * n).uniform() for s in range(30) for n in range(30)}
    assert len(numbers) == 900
    assert all(0 <= u < 1 for u in numbers)


def test_a_forbidden_token_is_never_drawn(nucleus):
    logits = torch.zeros(20)
    logits[4] = -torch.inf
    assert 4 not in drawn(nucleus, logits, 1.0, 0.999, 2_000).tolist()


def test_rows_that_do_not_ask_are_left_alone(nucleus):
    processor = nucleus.NucleusDraw(None, torch.device("cpu"), False)
    processor._draws[1] = nucleus.Draw(1.0, 0.9, 1, [])
    logits = torch.randn(3, 50)
    before = logits.clone()
    after = processor.apply(logits)
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    assert (after[1] == nucleus.CHOSEN).sum() == 1


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 0.5), (0.8, 0.9), (1.0, 1.0)])
def test_ends_keep_their_own_probability_and_the_rest_its_nucleus(nucleus, temperature, top_p):
    logits = torch.randn(60, generator=torch.Generator().manual_seed(11)) * 2
    ends = (int(logits.argsort(descending=True)[20]), int(logits.argmin()))
    own = torch.softmax(logits.double() / temperature, dim=-1)
    others = logits.clone()
    others[list(ends)] = -torch.inf
    want = expected(others, temperature, top_p) * (1 - own[list(ends)].sum())
    want[list(ends)] = own[list(ends)]
    times = 20_000
    draws = [nucleus.Draw(temperature, top_p, seed, [], ends) for seed in range(times)]
    tokens = nucleus.draw_tokens(logits.expand(times, -1).clone(), draws)
    seen = torch.bincount(tokens, minlength=60).double() / times
    assert ((seen - want).abs() <= 4 * (want * (1 - want) / times).sqrt() + 1 / times).all()


def test_rows_with_and_without_ends_share_a_batch(nucleus):
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(13)).repeat(50, 1)
    draws = [nucleus.Draw(1.0, 0.9, s, [], ((), (3,), (3, 7), (7,))[s % 4]) for s in range(200)]
    together = nucleus.draw_tokens(logits.clone(), draws)
    alone = [nucleus.draw_tokens(logits[i : i + 1].clone(), [draws[i]])[0] for i in range(200)]
    assert together.tolist() == [int(token) for token in alone]


def test_a_certain_end_always_comes_and_a_forbidden_one_never(nucleus):
    logits = torch.zeros(2, 20)
    logits[0, 5], logits[1, 5] = 100.0, -100.0
    for seed in range(100):
        draws = [nucleus.Draw(1.0, 0.9, seed, [], (5,))] * 2
        certain, forbidden = nucleus.draw_tokens(logits.clone(), draws).tolist()
        assert certain == 5
        assert forbidden != 5


def test_of_ends_alone_one_comes_and_nothing_possible_is_no_error(nucleus):
    logits = torch.full((1, 20), -torch.inf)
    logits[0, [3, 7]] = 1.0
    draws = [nucleus.Draw(1.0, 0.9, seed, [], (3, 7)) for seed in range(200)]
    assert set(nucleus.draw_tokens(logits.expand(200, -1), draws).tolist()) == {3, 7}
