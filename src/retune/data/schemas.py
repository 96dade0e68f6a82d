"""Columns of the tables that the data stages hand on."""

from __future__ import annotations

import pyarrow as pa

TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

ROW_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),  # null: the row has no name of its own
        ("group", pa.string()),  # null: no column says which rows belong together
        ("history", TURNS),  # turns before the last question, a system message among them
        ("question", pa.string()),  # empty for plain text
        ("context", pa.string()),  # the text beside the question; empty where there is none
        ("thinking", pa.string()),  # what the answer is preceded by in its own channel, or null
        ("answer", pa.string()),
        ("repaired", pa.bool_()),  # whether a missing final channel was put back (harmony)
        ("label", pa.string()),  # name of the class, or null
        ("db_id", pa.string()),  # database that the row asks about, or null
        ("file", pa.int32()),  # place of its file in the source, from 0
        ("line", pa.int64()),  # line in its file where the row begins, from 1; else its number
    ]
)
"""`rows.parquet` of a `DatasetRef`: rows of any format in one layout."""

DATABASE_SCHEMA = pa.schema(
    [
        ("db_id", pa.string()),
        ("schema", pa.string()),  # CREATE statements: what the prompt shows
        ("context", pa.string()),  # SQL that creates and fills it
    ]
)

INDEX_SCHEMA = pa.schema(
    [
        ("source", pa.int32()),  # place of the source, from 0
        ("row", pa.int64()),  # place of the row in the source's `rows.parquet`, from 0
        ("row_id", pa.string()),  # unique over all sources
        ("group", pa.string()),  # never null: the row's, else its database, else its folded text
        ("key", pa.string()),  # what the row is by itself: its own name, else its content
        ("label", pa.string()),
        ("db_id", pa.string()),
        ("held_out", pa.bool_()),  # whether it comes from a fixed held-out source
        ("exact", pa.uint64()),  # hash of its text (and database)
        ("folded", pa.uint64()),  # hash of the folded text (and database)
    ]
)
"""`index.parquet` of a `CleanRef`, and each side of a `SplitRef`: kept rows without their texts."""

ENCODED_SCHEMA = pa.schema(
    [
        ("prompt", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("answer_ids", pa.list_(pa.int32())),  # ends with an end token
        ("loss_mask", pa.list_(pa.bool_())),  # over both; null: the answer's tokens carry loss
        ("fault", pa.string()),  # why the row cannot be written as a chat, or null
        ("repaired", pa.bool_()),  # whether a missing final channel was put back
    ]
)
"""`chats.parquet` of an `EncodedRef`: row by row what `rows.parquet` holds."""

CHAT_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("group", pa.string()),
        ("db_id", pa.string()),
        ("label", pa.string()),
        ("question", pa.string()),
        ("prompt", pa.string()),
        ("answer", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("answer_ids", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.bool_())),
    ]
)
"""`rows.parquet` of a `SideRef`: what is trained on and scored."""
