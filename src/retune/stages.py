"""All stages of a recipe in one table.

A version is raised when a stage's code would give another result.
"""

from __future__ import annotations

from typing import Any

from retune import requests
from retune.recipe.sections import (
    GrpoConfig,
    HeadConfig,
    ProbesConfig,
    PromptConfig,
    QuantizationConfig,
    ScoringConfig,
    TrainingConfig,
)
from retune.records import (
    AdapterRef,
    ChatRef,
    CleanRef,
    DatabasesRef,
    DatasetRef,
    EncodedRef,
    GateDecision,
    MergedRef,
    MethodFit,
    ModelRef,
    PairsRef,
    RegisteredRef,
    ScoreReport,
    SplitRef,
)
from retune.stage import Stage

_MODEL = ("torch", "transformers")
_ADAPTED = (*_MODEL, "peft", "bitsandbytes")
_SCORED = (*_ADAPTED, "numpy", "scipy")
_SQL_SETTINGS = ("scoring.sql_dialect", "scoring.sql_timeout_seconds")
_PROBES_WITHOUT = (
    "probes.file",
    "probes.counterfactuals",
    "probes.robustness",
    "prompt.user",
    "prompt.max_length",
    "prompt.loss_on",
    "prompt.template",
    "prompt.template_from",
)
"""What probes do not depend on: where their files lie, and how the rows of the task are asked."""

_NAMES_OF_THE_BASE = ("model.id", "model.revision", "quantization.reference_text")
_START = "training.start_from"
"""Where an adapter lies; what it holds is an input."""
_METHOD_WITHOUT = (
    *(f"quantization.{n}" for n in QuantizationConfig.model_fields if n != "kind"),
    *(f"training.{n}" for n in TrainingConfig.model_fields if n != "gradient_checkpointing"),
    *(f"head.{name}" for name in HeadConfig.model_fields),
    *(f"prompt.{n}" for n in PromptConfig.model_fields if n not in ("system", "reasoning_effort")),
    *(f"scoring.{n}" for n in ScoringConfig.model_fields if n != "max_new_tokens"),
    *(f"probes.{n}" for n in ProbesConfig.model_fields if n != "max_new_tokens"),
    *(f"grpo.{n}" for n in GrpoConfig.model_fields if n != "max_new_tokens"),
)
"""Whether a method fits depends on little: no rate, no number of steps."""
_PAIRS_WITHOUT = (
    "pairs",
    "beta",
    "loss",
    "max_steps",
    "epochs",
    "batch_size",
    "learning_rate",
)
_REWARDS_WITHOUT = ("max_new_tokens", "samples", "resamples", "general_text", "classify_by")

LOAD_DATABASES = Stage(
    name="load_databases",
    version=2,
    function="retune.data.databases:load_databases",
    inputs=requests.DatabasesInputs,
    section=requests.NoSection,
    output=DatabasesRef,
    libraries=("pyarrow",),
)
LOAD_ROWS = Stage(
    name="load_rows",
    version=5,
    function="retune.data.rows:load_rows",
    inputs=requests.LoadInputs,
    section=requests.NoSection,
    output=DatasetRef,
    libraries=("datasets", "pyarrow"),
)
CLEAN_ROWS = Stage(
    name="clean_rows",
    version=3,
    function="retune.data.quality.cleaning:clean_rows",
    inputs=requests.CleanInputs,
    section=requests.CleanSection,
    output=CleanRef,
    libraries=("datasketch", "numpy", "py3langid", "pyarrow", "python-stdnum"),
    not_identity=("quality.drop_leaked",),
)
SPLIT_ROWS = Stage(
    name="split_rows",
    version=2,
    function="retune.data.splitting:split_rows",
    inputs=requests.SplitInputs,
    section=requests.SplitSection,
    output=SplitRef,
    libraries=("pyarrow",),
)
REMOVE_LEAKS = Stage(
    name="remove_leaks",
    version=2,
    function="retune.data.leaks:remove_leaks",
    inputs=requests.LeaksInputs,
    section=requests.LeaksSection,
    output=SplitRef,
    libraries=("datasketch", "pyarrow", "sqlglot"),
    not_identity=(
        "quality.drop_duplicates",
        "quality.drop_conflicting_labels",
        "quality.languages",
        "scoring.max_new_tokens",
        "scoring.sql_timeout_seconds",
        "scoring.samples",
        "scoring.resamples",
        "scoring.general_text",
        "scoring.classify_by",
    ),
)
FORMAT_CHAT = Stage(
    name="format_chat",
    version=5,
    function="retune.data.chats.encoding:format_chat",
    inputs=requests.EncodeInputs,
    section=requests.EncodeSection,
    output=EncodedRef,
    libraries=("pyarrow", "tokenizers", "transformers", "trl"),
    not_identity=("prompt.max_length", "prompt.template", "prompt.template_from"),
    on_device=True,
)
PREPARE_SIDES = Stage(
    name="prepare_sides",
    version=3,
    function="retune.data.chats.preparing:prepare_sides",
    inputs=requests.ChatInputs,
    section=requests.ChatSection,
    output=ChatRef,
    libraries=("pyarrow",),
    not_identity=(
        "prompt.user",
        "prompt.system",
        "prompt.template",
        "prompt.template_from",
        "prompt.reasoning_effort",
    ),
)
CHECK_METHOD = Stage(
    name="check_method",
    version=2,
    function="retune.modeling.methods.fitting:check_method",
    inputs=requests.MethodInputs,
    section=requests.MethodSection,
    output=MethodFit,
    libraries=(*_MODEL, "peft", "pyarrow", "tokenizers"),
    not_identity=_METHOD_WITHOUT,
    on_device=True,
)
QUANTIZE_MODEL = Stage(
    name="quantize_model",
    version=1,
    function="retune.modeling.quantizing:quantize_model",
    inputs=requests.QuantizeInputs,
    section=requests.QuantizeSection,
    output=ModelRef,
    libraries=(*_MODEL, "bitsandbytes"),
    not_identity=("model.id", "model.revision", "quantization.reference_text"),
    on_device=True,
)
TRAIN_ADAPTER = Stage(
    name="train_adapter",
    version=4,
    function="retune.training.supervised:train_adapter",
    inputs=requests.TrainInputs,
    section=requests.TrainSection,
    output=AdapterRef,
    libraries=(*_ADAPTED, "trl", "accelerate"),
    not_identity=(*_NAMES_OF_THE_BASE, _START),
    on_device=True,
)
FORMAT_PAIRS = Stage(
    name="format_pairs",
    version=2,
    function="retune.data.chats.pairs:format_pairs",
    inputs=requests.PairsInputs,
    section=requests.PairsSection,
    output=PairsRef,
    libraries=("pyarrow", "tokenizers", "transformers"),
    not_identity=(
        "prompt.user",
        "prompt.loss_on",
        "prompt.template",
        "prompt.template_from",
        *(f"dpo.{name}" for name in _PAIRS_WITHOUT),
    ),
    on_device=True,
)
TRAIN_PREFERENCES = Stage(
    name="train_preferences",
    version=1,
    function="retune.training.preferences:train_preferences",
    inputs=requests.PreferenceInputs,
    section=requests.PreferenceSection,
    output=AdapterRef,
    libraries=(*_ADAPTED, "trl", "accelerate"),
    not_identity=(*_NAMES_OF_THE_BASE, _START, "dpo.pairs", "dpo.validation_fraction"),
    on_device=True,
)
TRAIN_REWARDS = Stage(
    name="train_rewards",
    version=2,
    function="retune.training.rewards:train_rewards",
    inputs=requests.RewardInputs,
    section=requests.RewardSection,
    output=AdapterRef,
    libraries=(*_ADAPTED, "trl", "accelerate", "sqlglot"),
    not_identity=(
        *_NAMES_OF_THE_BASE,
        _START,
        *(f"scoring.{name}" for name in _REWARDS_WITHOUT),
    ),
    on_device=True,
)
TRAIN_CLASSIFIER = Stage(
    name="train_classifier",
    version=1,
    function="retune.training.classifying:train_classifier",
    inputs=requests.ClassifierInputs,
    section=requests.ClassifierSection,
    output=AdapterRef,
    libraries=(*_ADAPTED, "trl", "accelerate"),
    not_identity=(*_NAMES_OF_THE_BASE, _START),
    on_device=True,
)
MERGE_ADAPTER = Stage(
    name="merge_adapter",
    version=3,
    function="retune.modeling.merging:merge_adapter",
    inputs=requests.MergeInputs,
    section=requests.MergeSection,
    output=MergedRef,
    libraries=(*_ADAPTED, "safetensors"),
    on_device=True,
)
BUNDLE_ADAPTER = Stage(
    name="bundle_adapter",
    version=2,
    function="retune.modeling.bundling:bundle_adapter",
    inputs=requests.MergeInputs,
    section=requests.BundleSection,
    output=MergedRef,
    libraries=(*_ADAPTED, "safetensors"),
    not_identity=("merge.max_shard_size", "merge.tolerance", "merge.dtype"),
    on_device=True,
)
SCORE_PERPLEXITY = Stage(
    name="score_perplexity",
    version=4,
    function="retune.scoring.held_out:score_perplexity",
    inputs=requests.ScoreInputs,
    section=requests.ScoreSection,
    output=ScoreReport,
    libraries=_SCORED,
    not_identity=(
        *_SQL_SETTINGS,
        "scoring.max_new_tokens",
        "scoring.samples",
        "scoring.general_text",
        "scoring.classify_by",
    ),
    on_device=True,
)
SCORE_SQL = Stage(
    name="score_sql",
    version=4,
    function="retune.scoring.held_out:score_generated_sql",
    inputs=requests.ScoreInputs,
    section=requests.ScoreSection,
    output=ScoreReport,
    libraries=(*_SCORED, "sqlglot"),
    not_identity=(
        "scoring.samples",
        "scoring.resamples",
        "scoring.general_text",
        "scoring.classify_by",
    ),
    on_device=True,
)
SCORE_LABELS = Stage(
    name="score_labels",
    version=3,
    function="retune.scoring.labels:score_labels",
    inputs=requests.LabelInputs,
    section=requests.ScoreSection,
    output=ScoreReport,
    libraries=(*_SCORED, "matplotlib", "scikit-learn"),
    not_identity=(*_SQL_SETTINGS, "scoring.samples", "scoring.general_text"),
    on_device=True,
)
SCORE_BASELINES = Stage(
    name="score_baselines",
    version=3,
    function="retune.scoring.labels:score_label_baselines",
    inputs=requests.BaselineInputs,
    section=requests.ScoreSection,
    output=ScoreReport,
    libraries=("numpy", "scikit-learn", "scipy"),
    not_identity=(
        *_SQL_SETTINGS,
        "scoring.samples",
        "scoring.general_text",
        "scoring.max_new_tokens",
        "scoring.classify_by",
    ),
)
SAMPLE_ANSWERS = Stage(
    name="sample_answers",
    version=2,
    function="retune.scoring.held_out:sample_answers",
    inputs=requests.ScoreInputs,
    section=requests.ScoreSection,
    output=ScoreReport,
    libraries=_SCORED,
    not_identity=(
        *_SQL_SETTINGS,
        "scoring.resamples",
        "scoring.general_text",
        "scoring.classify_by",
    ),
    on_device=True,
)
SCORE_GENERAL_TEXT = Stage(
    name="score_general_text",
    version=3,
    function="retune.scoring.general_text:score_general_text",
    inputs=requests.TextInputs,
    section=requests.ScoreSection,
    output=ScoreReport,
    libraries=_SCORED,
    not_identity=(
        *_SQL_SETTINGS,
        "scoring.samples",
        "scoring.general_text",
        "scoring.max_new_tokens",
        "scoring.classify_by",
    ),
    on_device=True,
)
PROBE_COUNTERFACTUALS = Stage(
    name="probe_counterfactuals",
    version=3,
    function="retune.scoring.probing:probe_counterfactuals",
    inputs=requests.ProbeInputs,
    section=requests.ProbeSection,
    output=ScoreReport,
    libraries=_SCORED,
    not_identity=(
        *_PROBES_WITHOUT,
        *(f"scoring.{name}" for name in ("max_new_tokens", "samples", "classify_by")),
        *_SQL_SETTINGS,
        "scoring.general_text",
    ),
    on_device=True,
)
PROBE_ROBUSTNESS = Stage(
    name="probe_robustness",
    version=3,
    function="retune.scoring.perturbing:probe_robustness",
    inputs=requests.RobustnessInputs,
    section=requests.RobustnessSection,
    output=ScoreReport,
    libraries=(*_SCORED, "sqlglot"),
    not_identity=(
        "probes.file",
        "probes.counterfactuals",
        "probes.max_new_tokens",
        "probes.robustness.paraphrases",
        "scoring.samples",
        "scoring.general_text",
    ),
    on_device=True,
)
PROBE_MODEL = Stage(
    name="probe_model",
    version=3,
    function="retune.scoring.probing:probe_model",
    inputs=requests.ProbeInputs,
    section=requests.ProbeSection,
    output=ScoreReport,
    libraries=_SCORED,
    not_identity=(*_PROBES_WITHOUT, "scoring"),
    on_device=True,
)
DECIDE = Stage(
    name="decide",
    version=4,
    function="retune.release.gate:decide",
    inputs=requests.DecideInputs,
    section=requests.DecideSection,
    output=GateDecision,
    libraries=("numpy", "scipy"),
    not_identity=(
        *_SQL_SETTINGS,
        "scoring.max_new_tokens",
        "scoring.samples",
        "scoring.general_text",
        "scoring.classify_by",
    ),
)
REGISTER_MODEL = Stage(
    name="register_model",
    version=1,
    function="retune.registry:register_model",
    inputs=requests.RegisterInputs,
    section=requests.RegisterSection,
    output=RegisteredRef,
    libraries=(*_MODEL, "mlflow"),
    on_device=True,
    still_true="retune.registry:is_registered",
)

TRAINING_STAGES = frozenset(
    stage.name for stage in (TRAIN_ADAPTER, TRAIN_CLASSIFIER, TRAIN_PREFERENCES, TRAIN_REWARDS)
)
"""Stages whose curves a run of their own in MLflow shows."""

STAGES: dict[str, Stage[Any]] = {
    stage.name: stage
    for stage in (
        LOAD_DATABASES,
        LOAD_ROWS,
        CLEAN_ROWS,
        SPLIT_ROWS,
        REMOVE_LEAKS,
        FORMAT_CHAT,
        PREPARE_SIDES,
        CHECK_METHOD,
        QUANTIZE_MODEL,
        TRAIN_ADAPTER,
        TRAIN_CLASSIFIER,
        FORMAT_PAIRS,
        TRAIN_PREFERENCES,
        TRAIN_REWARDS,
        MERGE_ADAPTER,
        BUNDLE_ADAPTER,
        SCORE_PERPLEXITY,
        SCORE_SQL,
        SCORE_LABELS,
        SCORE_BASELINES,
        SAMPLE_ANSWERS,
        SCORE_GENERAL_TEXT,
        PROBE_MODEL,
        PROBE_COUNTERFACTUALS,
        PROBE_ROBUSTNESS,
        DECIDE,
        REGISTER_MODEL,
    )
}
