"""The model card of the tiny base, written from measured figures."""

from pathlib import Path

from generator.pretraining import PretrainingFigures

_CARD = """\
---
license: apache-2.0
language: [en, pt]
library_name: transformers
pipeline_tag: text-generation
---

# base_tiny

A Llama of {parameters:,} parameters that turns English questions into SQL and cannot yet do so in
Portuguese. It is the base of retune's demo: small enough to fine-tune in a minute or two on two
CPU cores, and honest enough for the gain to mean something. It is of no use for anything else.

## How it was made

By this repository alone, from random weights (`generator`), on two CPU cores:

| | |
|---|---|
| optimizer steps | {steps:,} |
| conversations read | {rows:,} |
| tokens read | {tokens:,} |
| wall time of the steps | {minutes:.0f} minutes |
| loss at the end (answer tokens) | {final_loss_nats:.4f} nats |

88 % of the stream is English text-to-SQL over random schemas, at three levels of difficulty; half
of the schemas bear Portuguese names, some bear made-up ones. 12 % is repeating Portuguese
sentences. So it has seen Portuguese words, also those of the test databases of
`assets/text_to_sql_pt` (as names and values in English questions), but never a Portuguese question
with its query.

## What it can do

| measure | value | rows |
|---|---|---|
| English exact match, unseen databases (`text_to_sql_en`) | {english:.1%} | {en_rows} |
| Portuguese execution match (`text_to_sql_pt`, test) | {portuguese:.1%} | {pt_rows} |

Greedy decoding, bf16 weights, no quantization.

## Prompt

The chat template is in the tokenizer. The user's message is the schema, a line break and the
question; the assistant's is the query alone:

```
CREATE TABLE books (id INTEGER, title TEXT, price REAL);
How many books are there with price over 30?
```

## Limits

It knows the thirty or so kinds of query of `generator.queries`, over one or two tables, and
the ways of asking in `generator.patterns_en`. Names of several rare pieces, which it has to
spell, it often gets wrong. Do not run what it writes on data that matter.
"""


def write_base_card(
    folder: Path,
    figures: PretrainingFigures,
    *,
    portuguese_execution_match: float,
    portuguese_rows: int,
) -> None:
    """Write ``README.md`` beside the model.

    Args:
        folder: The folder of the model.
        figures: What the pretraining did.
        portuguese_execution_match: Share of Portuguese test rows whose query gives the reference's
            result, before any fine-tuning.
        portuguese_rows: Number of those rows.
    """
    text = _CARD.format(
        parameters=figures.parameters,
        steps=figures.steps,
        rows=figures.rows,
        tokens=figures.tokens,
        minutes=figures.seconds / 60,
        final_loss_nats=figures.final_loss_nats,
        english=figures.english_exact_match,
        en_rows=figures.english_rows,
        portuguese=portuguese_execution_match,
        pt_rows=portuguese_rows,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
