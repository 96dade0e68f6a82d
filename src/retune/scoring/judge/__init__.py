"""A model that is shown two answers and says which is better, and how far it can be believed.

Each pair is asked twice, in both orders. A verdict that changes with the order is a tie; a pair
without a verdict in either order has none. `agreement` holds the judge against people, `win_rate`
lets it compare two models, and `standing` says whether its figure may decide. docs/judging.md says
what is measured, and why.
"""
