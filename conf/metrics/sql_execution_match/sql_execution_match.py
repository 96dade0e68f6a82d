"""SQL execution match, as an `evaluate` module; README.md beside it says how it is computed."""

import datasets
import evaluate

from retune.scoring.sql.score import extract_sql, score_queries
from retune.sql.records import SqlLimits, SqlRow

_TEXT = datasets.Value("string")


class SqlExecutionMatch(evaluate.Metric):
    """Queries that give what the reference gives, each on its own database."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of queries whose result is that of the reference.",
            citation="",
            inputs_description=(
                "predictions: queries as a model writes them; references: right queries; "
                "databases: CREATE and INSERT statements of the database that each is asked on"
            ),
            features=datasets.Features(
                {"predictions": _TEXT, "references": _TEXT, "databases": _TEXT}
            ),
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        databases: list[str],
        dialect: str = "sqlite",
        timeout_seconds: float = SqlLimits().deadline_s,
    ) -> dict[str, float | None]:
        rows = [
            SqlRow(row_id=str(number), gold=gold, context=context)
            for number, (gold, context) in enumerate(zip(references, databases, strict=True))
        ]
        scores = score_queries(
            rows,
            [extract_sql(text) for text in predictions],
            dialect=dialect,
            limits=SqlLimits(deadline_s=timeout_seconds),
        )
        return {
            "sql_execution_match": scores.estimates["sql_execution_match"].value,
            "sql_execution_match_rows": scores.estimates["sql_execution_match"].n,
        }
