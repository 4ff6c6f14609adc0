from usersim.fidelity.summary import summary_rows


def marks(**points):
    return {row["name"]: row["within"] for row in summary_rows(points)}


def test_a_figure_is_held_against_a_floor_of_its_own_size():
    """0.6 is of all persons; with as many as halves of people have, it is what these reach."""
    first = {"linear": {"auc": 0.6, "floor_high": 0.58, "auc_at_floor_size": 0.57}}
    error = {"value": 0.2, "floor_high": 0.1, "within": True}
    groups = {group: {"statistics": {"please": {"error": error}}} for group in ("first", "later")}
    found = marks(two_sample={"first": first}, surface={"groups": groups, "distances": {}})
    assert found == dict.fromkeys(("linear, first turns", "please, first", "please, later"), True)


def test_a_share_far_below_peoples_is_not_near_it():
    share = {"value": 0.0, "floor": 0.3, "floor_high": 0.35, "difference": {"within": False}}
    assert marks(memorisation={"personal_data": share}) == {"personal data": False}


def test_a_gain_over_the_baseline_is_not_judged_by_how_people_differ():
    turns = {"value": 17.0}
    ours = {"all": 17.0, "low": 16.0, "high": 18.0, "first": turns, "later": turns}
    ours["change"] = {"all": {"value": -0.22, "low": -0.25, "high": -0.2}}
    floor = {"value": 0.08, "high": 0.2}
    assert set(marks(perplexity={"user_model": ours, "floor": floor}).values()) == {None}


def test_the_longest_stretch_stands_beside_peoples_and_the_baselines():
    longest = {"real": {"most": 30}, "simulated": {"most": 12}, "prompted": {"most": 9}}
    (row,) = summary_rows({"memorisation": {"longest": longest}})
    assert (row["value"], row["floor"], row["prompted"], row["unit"]) == (12, 30, 9, "words")


def test_what_chance_gives_is_not_called_people():
    (row,) = summary_rows({"conditions": {"case": {"followed": 0.8, "by_chance": 0.5}}})
    assert (row["name"], row["floor"]) == ("case, followed (floor: by chance)", 0.5)
