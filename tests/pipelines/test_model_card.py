"""A model's card: YAML that parses, figures as they were measured, nothing that breaks out."""

import pytest
import yaml

from pipelines.licensing import Entry, Permission
from pipelines.model_card import public_name, render_model_card
from pipelines.recipe import Recipe

RECIPE = Recipe.checked({"name": "small"}, "test")
GIVEN = Permission("apache-2.0", (Entry("base model x", "apache-2.0"), Entry("a|b", "mit", 7)))
LOSS = {
    "before": {"mean": 2.5, "low": 2.4, "high": 2.6},
    "after": {"mean": 2.0, "low": 1.9, "high": 2.1},
}


def card(about, metrics=None, given=GIVEN) -> str:
    return render_model_card(about, metrics or {}, RECIPE, "someone/model", given)


def test_a_user_models_card_tells_whose_turn_it_opens_and_how_well():
    text = card(
        {"opens": "user", "base": "org/base", "perplexity": {"before": 30.5, "after": 12.25}}
    )
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "apache-2.0"
    assert front["base_model"] == "org/base"
    assert "user-simulator" in front["tags"]
    assert "| perplexity of held-out people's turns | 30.5 | 12.25 |" in text
    assert 'from_pretrained("someone/model")' in text
    assert "opens a turn of the user" in text
    assert r"| a\|b | mit | 7 conversations |" in text


def test_an_assistants_card_shows_its_losses_with_their_intervals():
    text = card({"opens": "assistant", "base": "smollm2-135m-instruct", "loss": {"real": LOSS}})
    assert r"2.500 \[2.400, 2.600\] | 2.000 \[1.900, 2.100\]" in text
    assert "base_model" not in text.split("---\n")[1]
    assert "opens a turn of the user" not in text


def test_figures_come_from_the_runs_metrics_when_the_checkpoint_has_none_and_may_be_absent():
    metrics = {
        "user_model": {"perplexity": {"before": 9.0, "after": 8.0}, "training": {"steps": 6}}
    }
    text = card({"opens": "user"}, metrics)
    assert "| 9 | 8 |" in text
    assert "| training steps | 6 |" in text
    assert "## Figures" not in card({"opens": "user"})


def test_a_statement_is_on_the_card_and_cannot_become_markup():
    given = Permission("other", GIVEN.ledger, "mine\n# all <b>mine</b>")
    text = card({"opens": "user"}, given=given)
    assert r"states about it: mine \# all \<b\>mine\</b\>" in text
    assert yaml.safe_load(text.split("---\n")[1])["license_name"] == "stated-on-this-card"


@pytest.mark.parametrize(
    ("name", "shown"),
    [("org/base", "org/base"), ("/a/b/model", "model"), ("~/m", "m"), ("gemma-3-270m",) * 2],
)
def test_a_folder_of_this_machine_is_named_by_its_last_part(name, shown):
    assert public_name(name) == shown
