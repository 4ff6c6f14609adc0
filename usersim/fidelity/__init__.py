"""Fidelity: how close simulated users are to people, point by point, each beside what it means.

    persons        who is compared: conversations by person, halves of them
    intervals      bootstrap over persons, in numpy
    designs        a figure, its interval, its floor and its baseline by the same lines
    floors         the same for measures that are no function of sums over persons
    likelihood     1. perplexity on people's turns
    endings        2. decisions to leave, beside baselines (decisions); how long it goes on (rounds)
    variety        3. how different openers are; who repeats themselves
    habits         4. how people type: errors by statistic and by number of the turn
    two_sample     5. how well classifiers tell simulated from real, and by which words
    roles          6. who begins to answer, whose talk goes round (compliance: who does as told)
    memory         7. what is repeated of training people; personal data that comes out
    measure        all of it, from what could be had, as fidelity.json
    reference      real people from a file or source; baseline: a prompted model in the same loop

A figure alone says little. Each has a floor (two halves of the real people, as many on each side as
in the comparison beside it) and, where one was simulated, a baseline: the same weights, untrained,
instructed to act as a user. Persons are the unit throughout: nobody's turns stand on both sides of
a fold, and intervals resample persons, not turns.
"""
