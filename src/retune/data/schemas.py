"""Columns of the tables that the data stages hand on."""

from __future__ import annotations

import pyarrow as pa

TURNS = pa.list_(
    pa.struct(
        [
            ("role", pa.string()),  # system, developer, user, assistant or tool
            ("content", pa.string()),  # empty where a turn only calls tools
            ("thinking", pa.string()),  # of an assistant's turn, or null
            ("calls", pa.string()),  # JSON list of {"name", "arguments"} (an object), or null
            ("name", pa.string()),  # of the tool that answers, or null
            ("learned", pa.bool_()),  # false: the row says that this turn carries no loss
        ]
    )
)

ROW_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),  # null: the row has no name of its own
        ("group", pa.string()),  # null: no column says which rows belong together
        ("history", TURNS),  # turns before the last question, a system message among them
        ("question", pa.string()),  # empty for plain text
        ("steps", TURNS),  # calls and answers of tools between question and answer
        ("context", pa.string()),  # the text beside the question; empty where there is none
        ("thinking", pa.string()),  # what the answer is preceded by in its own channel, or null
        ("answer", pa.string()),  # empty where the answer is nothing but calls
        ("references", pa.list_(pa.string())),  # all right answers where there are several
        ("calls", pa.string()),  # JSON list of tool calls that the answer makes, or null
        ("learned", pa.bool_()),  # false: the row says that its answer carries no loss
        ("tools", pa.string()),  # JSON list of the tools that the model may call, or null
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

HISTORY_SCHEMA = pa.schema(
    [
        ("side", pa.string()),  # train, validation, test, left_out; of earlier versions: see below
        ("row_id", pa.string()),
        ("content", pa.string()),  # what it asks (and its database), folded: the index's `folded`
        ("group", pa.string()),  # hash of its group's name
    ]
)
"""Rows that a version of a model knows, hashes as 16 hexadecimal digits. `left_out`: on no side.
Of rows that are no longer there, or not on that side: `held_out` were asked in the test of an
earlier version, `learned` were trained on by one."""

KEPT_SCHEMA = pa.schema(
    [
        ("source", pa.int32()),  # as in the index
        ("row", pa.int64()),
        ("side", pa.string()),  # that it stays on; null: on none
    ]
)
"""Rows that keep the part that they had in an earlier version, against what their name gives."""

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
        ("references", pa.list_(pa.string())),  # all right answers where there are several, or null
        ("prompt_ids", pa.list_(pa.int32())),
        ("answer_ids", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.bool_())),
    ]
)
"""`rows.parquet` of a `SideRef`: what is trained on and scored."""
