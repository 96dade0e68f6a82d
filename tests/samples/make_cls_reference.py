"""Makes tests/samples/cls_reference: drawn answers, and what public programs say of them.

Run from the repository's root: ``python tests/samples/make_cls_reference.py``. Figures are those of
scikit-learn, the exact McNemar test scipy's binomial test; the bootstrap draws rows with numpy.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn import metrics

FOLDER = Path(__file__).parent / "cls_reference"
LABELS = ["negative", "neutral", "positive"]
ROWS, DRAWS = 90, 2000

Answers = NDArray[np.int64]


def expected_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Return the ECE by its definition: ten bins, each with its own mean."""
    bins = np.minimum((confidence * 10).astype(int), 9)
    parts = [(bins == each) for each in range(10) if (bins == each).any()]
    return float(sum(p.mean() * abs(right[p].mean() - confidence[p].mean()) for p in parts))


def main() -> None:
    """Draw answers and write both files."""
    chance = np.random.default_rng(5)
    gold = np.repeat(np.arange(3), ROWS // 3)
    champion, challenger = (
        np.where(chance.random(ROWS) < share, gold, chance.integers(0, 3, ROWS))
        for share in (0.55, 0.45)
    )
    confidence = np.round(0.34 + 0.65 * chance.random(ROWS), 6)
    unparsable = np.arange(ROWS) % 18 == 0
    with (FOLDER / "xlmt_pt_predictions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = ("gold", "champion", "champion_confidence", "challenger")
        writer.writerow(["index", *names, "champion_with_unparsable"])
        for at in range(ROWS):
            answer = LABELS[champion[at]]
            writer.writerow(
                [
                    *(at, LABELS[gold[at]], answer, f"{confidence[at]:.6f}"),
                    *(LABELS[challenger[at]], "" if unparsable[at] else answer),
                ]
            )

    def macro_f1(golds: Answers, found: Answers) -> float:
        return float(metrics.f1_score(golds, found, labels=[0, 1, 2], average="macro"))

    def interval(drawn: list[float]) -> list[float]:
        return [float(each) for each in np.percentile(drawn, [2.5, 97.5])]

    draw = np.random.default_rng(20240601)
    draws = [draw.integers(0, ROWS, ROWS) for _ in range(DRAWS)]
    f1 = {
        name: [macro_f1(gold[at], found[at]) for at in draws]
        for name, found in (("champion", champion), ("challenger", challenger))
    }
    only_champion = int(((champion == gold) & (challenger != gold)).sum())
    only_challenger = int(((champion != gold) & (challenger == gold)).sum())
    told = metrics.classification_report(
        gold, champion, target_names=LABELS, output_dict=True, zero_division=0
    )
    kept = np.where(unparsable, 3, champion)
    right = champion == gold
    figures = {
        "n": ROWS,
        "champion": {
            "accuracy": metrics.accuracy_score(gold, champion),
            "macro_f1": macro_f1(gold, champion),
            "weighted_f1": metrics.f1_score(gold, champion, average="weighted"),
            "balanced_accuracy": metrics.balanced_accuracy_score(gold, champion),
            "mcc": metrics.matthews_corrcoef(gold, champion),
            "per_class": {label: told[label] for label in LABELS},
            "confusion": metrics.confusion_matrix(gold, champion).tolist(),
            "ece10": expected_error(confidence, right),
            "brier_of_top": float(((confidence - right) ** 2).mean()),
        },
        "challenger": {"macro_f1": macro_f1(gold, challenger)},
        "with_unparsable": {
            "unparsable": int(unparsable.sum()),
            "accuracy_unparsable_wrong": float((kept == gold).mean()),
            "macro_f1_over_the_3_labels_unparsable_wrong": macro_f1(gold, kept),
        },
        "paired": {
            "champion_right_challenger_wrong": only_champion,
            "champion_wrong_challenger_right": only_challenger,
            "mcnemar_exact_p": float(
                binomtest(only_champion, only_champion + only_challenger).pvalue
            ),
        },
        "bootstrap": {
            "champion_macro_f1": interval(f1["champion"]),
            "challenger_macro_f1": interval(f1["challenger"]),
            "paired_difference_macro_f1": interval(
                [a - b for a, b in zip(f1["champion"], f1["challenger"], strict=True)]
            ),
            "champion_accuracy": interval([float(right[at].mean()) for at in draws]),
        },
    }
    (FOLDER / "reference.json").write_text(json.dumps({"xlmt_pt": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
