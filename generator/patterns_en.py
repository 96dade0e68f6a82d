"""The ways to ask in English, by kind of query: choices in brackets, slots in braces.

A macro in angle brackets stands for choices that many patterns share. The slots are filled by
``questions_en``.
"""

MACROS = {
    "<ask>": "[[Show|List|Display|Give|Return|Find|Get|Fetch|Report|Select]"
    "|[Show me|Give me|Tell me|Get me]|[I want|I need|I would like to see|I want to know]"
    "|[Can you list|Could you show|Please list|Please show]]",
    "<then>": "[show|list|give|return|tell me|show me|display|report]",
    "<exist>": "[are there|do we have|exist|are listed|are recorded]",
}

_FILTERS = (
    "<ask> [the|] {cols} of [the|all|all the|] {t}{cond}",
    "<ask> the {cols_pl} of [the|all|] {t}{cond}",
    "What are the {cols_pl} of [the|all|] {t}{cond}",
    "What is the {cols} of [each|every|any] {one}{cond}",
    "For [the|all|] {t}{cond}, <then> the {cols}",
    "[Find|Get|Select|Look up] the {t}{cond} and <then> [their|the] {cols}",
    "{cols} of {t}{cond}",
    "Which {t} [are there|exist]{cond}? <ask> the {cols}",
)
_COUNTS = (
    "How many {t} <exist>{cond}",
    "What is the [number|total number|count] of {t}{cond}",
    "[Count|Count all|Count up] the {t}{cond}",
    "<ask> the [number|count|total number] of {t}{cond}",
    "<ask> how many {t} [there are|we have]{cond}",
    "[Number|Count] of {t}{cond}",
)
_AGGREGATES = (
    "What is {measure} of [the|all|all the|] {t}{cond}",
    "<ask> {measure} of [the|all|] {t}{cond}",
    "[Calculate|Compute|Work out] {measure} of [the|] {t}{cond}",
    "[Among|For|Considering] [the|] {t}{cond}, what is {measure}",
    "{measure} of {t}{cond}",
)
_GROUP_COUNTS = (
    "How many {t} <exist> [for each|per|in each|by] {g}",
    "<ask> the [number|count] of {t} [for each|per|by|in each] {g}",
    "[Count|Count up] the {t} [by|per|for each] {g}",
    "For each {g}, how many {t} <exist>",
    "For [each|every] {g}, <then> the [number|count] of {t}",
    "[Number|Count] of {t} by {g}",
    "<ask> each {g} and how many {t} [there are|it has]",
)

PATTERNS = {
    "list_columns": (
        "<ask> [the|] {cols} of [all|all the|the|every|each] {t_or_one}",
        "What are the {cols_pl} of [all|all the|the] {t}",
        "What is the {cols} of each {one}",
        "For [each|every] {one}, <then> the {cols}",
        "{cols_pl} of all {t}",
    ),
    "list_all": (
        "<ask> [everything|all the data|all information|all columns] [about|of|on] the {t}",
        "<ask> the [whole|full|complete] table of {t}",
        "What do we [know|have] about the {t}",
        "<ask> all {t} with all [fields|columns]",
    ),
    "count_all": tuple(pattern.replace("{cond}", "") for pattern in _COUNTS),
    "count_where": _COUNTS,
    "join_count": _COUNTS,
    "aggregate": tuple(pattern.replace("{cond}", "") for pattern in _AGGREGATES),
    "aggregate_where": _AGGREGATES,
    "join_aggregate": _AGGREGATES,
    "distinct": (
        "<ask> the [different|distinct|unique] {cs} of [the|all|] {t}",
        "What [different|distinct|unique] {cs} [exist|are there] [among|for] the {t}",
        "<ask> the {cs} of the {t} without [repeats|repetition|duplicates]",
        "Which {cs} [occur|appear] among the {t}[, without repeats|, each once]",
    ),
    "count_distinct": (
        "How many [different|distinct|unique] {cs} [are there|exist] [among|for] the {t}",
        "<ask> the number of [different|distinct|unique] {cs} of the {t}",
        "Count the [different|distinct|unique] {cs} of the {t}",
        "How many [different|distinct|unique] {cs} do the {t} have",
    ),
    "ordered": (
        "<ask> the {cols} of [the|all|] {t} {order}",
        "What are the {cols_pl} of the {t}, {order}",
        "{order}, <then> the {cols} of the {t}",
        "[Sort|Order] the {t} {order} and <then> the {cols}",
    ),
    "extreme": (
        "What is the {cols} of the {one} [with|that has] the {most} {k}",
        "<ask> the {cols} of the {one} [with|that has] the {most} {k}",
        "Which {one} has the {most} {k}? <ask> [the|its] {cols}",
        "[Find|Get] the {one} with the {most} {k} and <then> [the|its] {cols}",
    ),
    "top": (
        "<ask> the {cols} of the {n} {t} with the {most} {k}",
        "What are the {cols_pl} of the {n} {t} with the {most} {ks}",
        "Which {n} {t} have the {most} {k}? <ask> [the|their] {cols}",
        "[Find|Take|Get] the {n} {t} with the {most} {k} and <then> [the|their] {cols}",
    ),
    "group_count": _GROUP_COUNTS,
    "join_group": _GROUP_COUNTS,
    "group_aggregate": (
        "What is {measure} of the {t} [for each|per|by|in each] {g}",
        "<ask> {measure} of [the|] {t} [for each|per|by|in each] {g}",
        "For [each|every] {g}, [what is|show|compute|give] {measure} of the {t}",
        "[Group|Split] the {t} by {g} and [show|give|compute] {measure}",
        "{measure} of {t} by {g}",
    ),
    "most_common": (
        "[Which|What] {g} has the [most|largest number of] {t}",
        "<ask> the {g} with the [most|largest number of] {t}",
        "What is the most [common|frequent] {g} [of|among] the {t}",
        "<ask> the most [common|frequent] {g} [of|among] the {t}",
    ),
    "having_count": (
        "Which {gs} have more than {threshold} {t}",
        "<ask> the {gs} [with|that have] more than {threshold} {t}",
        "What are the {gs} that [appear in|occur in|have] more than {threshold} {t}",
        "In which {gs} are there more than {threshold} {t}",
    ),
    "having_average": (
        "Which {gs} have an average {c} [above|over|greater than|higher than] {threshold} "
        "[among|for] the {t}",
        "<ask> the {gs} of the {t} with an average {c} [above|over|greater than] {threshold}",
        "[Among|For] the {t}, which {gs} have [an average|a mean] {c} [above|over] {threshold}",
        "In which {gs} do the {t} have an average {c} [above|over|higher than] {threshold}",
    ),
    "above_average": (
        "<ask> the {c} of the {t} with {k} [above|over|higher than|greater than] [the|] average",
        "What is the {c} of the {t} whose {k} is [above|over|higher than] [the|] average",
        "Which {t} have [above-average {k}|{k} above the average]? <ask> the {c}",
        "For the {t} with {k} [above|over] [the|] average, <then> the {c}",
    ),
    "join_list": (
        "<ask> the {cols} of [the|all|] {t} [and|together with|along with|with] the {b} of {p}",
        "For [each|every] {one}, <then> the {cols} [and|together with] the {b} of {p}",
        "What is the {cols} of each {one} and the {b} of {p}",
    ),
}
for _kind in [
    "filter_equal",
    "filter_compare",
    "filter_and",
    "filter_or",
    "filter_between",
    "filter_not_equal",
    "filter_starts",
    "join_filter",
]:
    PATTERNS[_kind] = _FILTERS
