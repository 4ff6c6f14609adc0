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


def drawn(nucleus, logits, temperature, top_p, times, candidates=256):
    draws = [nucleus.Draw(temperature, top_p, seed, []) for seed in range(times)]
    return nucleus.draw_tokens(logits.expand(times, -1).clone(), draws, candidates)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 0.9), (0.7, 0.9), (1.5, 0.5), (1.0, 1.0)])
@pytest.mark.parametrize("candidates", [4, 256])
def test_tokens_come_as_often_as_their_probability_says(nucleus, temperature, top_p, candidates):
    logits = torch.randn(60, generator=torch.Generator().manual_seed(3)) * 2
    want = expected(logits, temperature, top_p)
    times = 20_000
    tokens = drawn(nucleus, logits, temperature, top_p, times, candidates)
    seen = torch.bincount(tokens, minlength=60).double() / times
    assert set(tokens.tolist()) <= set(want.nonzero()[:, 0].tolist())
    # Four standard errors of a frequency, and one draw's worth of grace for the rarest.
    assert ((seen - want).abs() <= 4 * (want * (1 - want) / times).sqrt() + 1 / times).all()


def test_few_candidates_and_all_of_them_draw_the_same(nucleus):
    logits = torch.randn(500, generator=torch.Generator().manual_seed(5))
    few, many = (drawn(nucleus, logits, 1.0, 0.95, 300, k) for k in (8, 500))
    assert torch.equal(few, many)


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


@pytest.mark.parametrize("candidates", [4, 256])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 0.5), (0.8, 0.9), (1.0, 1.0)])
def test_ends_keep_their_own_probability_and_the_rest_its_nucleus(
    nucleus, temperature, top_p, candidates
):
    logits = torch.randn(60, generator=torch.Generator().manual_seed(11)) * 2
    ends = (int(logits.argsort(descending=True)[20]), int(logits.argmin()))
    own = torch.softmax(logits.double() / temperature, dim=-1)
    others = logits.clone()
    others[list(ends)] = -torch.inf
    want = expected(others, temperature, top_p) * (1 - own[list(ends)].sum())
    want[list(ends)] = own[list(ends)]
    times = 20_000
    draws = [nucleus.Draw(temperature, top_p, seed, [], ends) for seed in range(times)]
    tokens = nucleus.draw_tokens(logits.expand(times, -1).clone(), draws, candidates)
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
