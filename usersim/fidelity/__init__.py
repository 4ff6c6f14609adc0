"""Fidelity: how close simulated users are to people, point by point, each beside what it means.

    persons      who is compared: conversations by person, halves of them
    intervals    bootstrap over persons, in numpy
    floors       any distance beside the same distance between two halves of the real people
    auc          area under the ROC curve of scores from a cross-validation
    tellers      two classifiers that try to tell simulated turns from real ones
    two_sample   how well they can, and the words that give it away

A figure alone says little. Each has a floor (two halves of the real people, as many on each side as
in the comparison beside it) and, where one was simulated, a baseline: the same weights, untrained,
instructed to act as a user. Persons are the unit throughout: nobody's turns stand on both sides of
a fold, and intervals resample persons, not turns.
"""
