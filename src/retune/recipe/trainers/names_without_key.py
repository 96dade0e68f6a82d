"""Old names that a recipe has no key for: why it does without, or what to write instead.

Those of the first table ask for nothing that changes what is learned, and are passed over with the
reason. Those of the second would change it: any value but the usual one is an error. Both hold the
arguments of the libraries and the names of other trainers' files alike (see `old_names`).
"""

from __future__ import annotations

from retune.recipe.trainers.old_values import OldName, only

_PASSED = {
    "retune computes the same in its own way": """
        activation_checkpointing_kwargs adapter_folder batch_flattening block_diag_attn cache_dir
        chunked_cross_entropy chunked_cross_entropy_num_chunks compute_dtype cut_cross_entropy
        dataloader_in_order dataloader_multiprocessing_context dataloader_persistent_workers
        dataloader_pin_memory dataloader_prefetch_factor dequantize disable_log_stats
        ds3_gather_for_generation enable_liger_kernel ensure_weight_tying fast_inference
        fix_tokenizer flash_attn_cross_entropy flash_attn_fuse_mlp flash_attn_fuse_qkv
        flash_attn_rms_norm flash_optimum flex_attn_compile_kwargs float8_kv_cache fp8_backend
        fp8_enable_fsdp_float8_all_gather generate_during_eval gpu_memory_utilization
        gradient_checkpointing_kwargs gradient_checkpointing_use_reentrant ignore_bias_buffers
        infer_backend infer_dtype init_special_tokens layer_offloading length_column_name
        log_completions log_completions_hub_repo log_multimodal log_unique_prompts
        logging_nan_inf_filter lora_embedding_kernel lora_mlp_kernel lora_o_kernel lora_qkv_kernel
        max_lora_rank multipack_real_batches num_completions_to_print offload_folder
        pad_to_sequence_len peft_autocast_adapter_dtype pissa_iter print_param_status
        quantization_device_map scaling_softmax torch_compile_backend torch_compile_mode
        torch_empty_cache_steps transformers_continuous_batching_config use_cache
        use_exact_model_name use_fast_tokenizer use_kernels use_kv_cache use_liger_kernel
        use_logits_to_keep use_reentrant_gc use_transformers_continuous_batching
        use_transformers_paged use_unsloth use_v1_kernels use_vllm
    """,
    "it is read from model.id, and the tokenizer is the one that comes with it": """
        auto_mapping base_model_config base_model_ignore_patterns base_model_name_or_path
        cls_model_config embeddings_skip_upcast fan_in_fan_out inference_mode
        is_falcon_derived_model is_llama_derived_model is_mistral_derived_model
        is_qwen_derived_model lora_fan_in_fan_out mean_resizing_embeddings model_type
        num_attention_heads num_layers num_transformer_submodules pad_token peft_ensure_weight_tying
        peft_version processing_class processor_type token_dim tokenizer_kwargs tokenizer_legacy
        tokenizer_save_jinja_files tokenizer_type tokenizer_use_fast
    """,
    (
        "rows are read, cached and packed by retune itself: data.columns and prompt say what the "
        "model reads, split which rows are held out, and no row is cut"
    ): """
        buffer_size data_collator data_shared_file_system dataset_batch_size dataset_dir
        dataset_keep_in_memory dataset_kwargs dataset_num_proc dataset_prepared_path
        dataset_processes dataset_shard_idx dataset_shard_num do_eval do_predict do_train
        eval_on_each_dataset eval_packing eval_sample_packing excess_length_strategy formatting_func
        instruction_template is_preprocess label_names max_completion_length max_prompt_len
        max_prompt_length max_target_length media_dir num_dataset_shards_to_save overwrite_cache
        pad_to_multiple_of padding_free padding_side preprocess_iterable preprocessing_batch_size
        preprocessing_num_workers pretrain_multipack_attn pretrain_multipack_buffer_size
        remove_unused_columns response_template sample_packing_bin_size sample_packing_eff_est
        sample_packing_group_size sample_packing_mp_start_method skip_prepare_dataset tokenized_path
        total_num_tokens total_supervised_tokens truncation_mode
    """,
    "rows with pictures and sounds are not read": """
        audio_sampling_rate crop_to_patches freeze_multi_modal_projector freeze_vision_tower
        use_audio_in_video
    """,
    "seed draws the order of rows too": "data_seed shuffle_dataset",
    "one process trains on one device, and retune places the model on it itself": """
        accelerator_config average_tokens_across_devices bnb_4bit_quant_storage ddp device
        device_map eval_use_gather_object experimental_skip_move_to_device fsdp_config gc_steps
        gpu_memory_limit heads_k_stride local_rank log_on_each_node lora_on_cpu low_cpu_mem_usage
        max_memory no_cuda placement_strategy qlora_sharded_model_loading resources_per_worker
        ring_attn_func save_on_each_node use_cpu use_mps_device use_ray world_size
    """,
    (
        "training.evaluations and training.watch say what is measured in training, scoring what is "
        "measured after it"
    ): """
        batch_eval_metrics bench_dataset bench_split bf16_full_eval compute_metrics do_bench_eval
        do_causal_lm_eval eval_accumulation_steps eval_causal_lm_metrics eval_delay
        eval_do_concat_batches eval_max_new_tokens eval_on_start eval_steps eval_table_size
        fp16_full_eval greater_is_better include_for_metrics include_inputs_for_metrics
        logging_first_step prediction_loss_only preprocess_logits_for_metrics
    """,
    "scored answers are greedy, and samples are drawn as scoring says; grpo has a temperature": """
        do_sample eval_num_beams length_penalty num_beams predict_with_generate repetition_penalty
        skip_special_tokens temperature top_k top_p
    """,
    "the report of a run shows what it took and what was measured": """
        compute_accuracy include_effective_tokens_per_second include_num_input_tokens_seen
        include_tokens_per_second plot_loss skip_memory_metrics
    """,
    (
        "checkpoints follow training.checkpoint_every_steps, and a training that was killed always "
        "resumes from its last whole one"
    ): """
        auto_resume_from_checkpoints enable_jit_checkpoint ignore_data_skip
        restore_callback_states_from_checkpoint save_first_step save_only_model save_safetensors
        save_strategy save_total_limit saves_per_epoch
    """,
    (
        "a run keeps what it trained, merged or beside its base, under store.folder and in the "
        "registry; nothing is uploaded"
    ): """
        adapter_file hub_always_push hub_model_id hub_path hub_private_repo hub_revision
        hub_strategy logging_dir maximum_memory_usage output_dir overwrite_output_dir push_gguf
        push_method push_model save_gguf save_method save_model save_path temporary_location
    """,
    "MLflow always, by the recipe's name; tracking.uri says where": """
        project report_to run_name use_comet use_mlflow use_swanlab use_tensorboard use_wandb
    """,
    "the command line says what is printed, and training.runtime.log_every_steps how often": """
        axolotl_config_path callbacks debug disable_tqdm log_level log_level_replica
        logging_strategy merge_lora merge_method profiler_steps profiler_steps_start strict torchao
    """,
    "it belongs to what is not offered": "loraplus_lr_embedding",
    "model.dtype and quantization.compute_dtype say so": "compute_type",
    "method.init_text says whether inputs start from a text": "prompt_tuning_init",
    "the hub's token is read from HF_TOKEN": "hf_use_auth_token",
}

_BEGINNINGS = {
    "wandb_ comet_ swanlab_ trackio_ mlflow_ hf_mlflow_": "MLflow always; tracking says where",
    "gradio_": "retune serve and retune ui show a model and its runs",
    "export_": "a run keeps what it trained, merged or beside its base; see merge and registry",
    "ray_ ddp_": "one process trains on one device",
    "liger_ unsloth_ vllm_": "retune computes the same in its own way",
    "image_ video_": "rows with pictures and sounds are not read",
    "galore_ apollo_ badam_ ppo_ llm_int8_": "it belongs to what is not offered",
}
"""Beginnings of names that ask for nothing by themselves, and the reason."""

_NOT_OFFERED = "it would change the training and is not offered; remove the key"
_DPO = (
    "preferences are learned after supervised fine-tuning: write dpo: {pairs: FILE} with beta, loss"
    " and learning_rate; where dpo has this, write it into dpo, see docs/aligning.md"
)
_SOURCE = "write the source by hand: data.train: [{hub: owner/name, config: ..., split: ...}]"
_PARALLEL = """
    context_parallel_size dp_replicate_size dp_shard_size expert_parallel_size
    pipeline_parallel_size sequence_parallel_degree tensor_parallel_size
"""

_REFUSED = {
    _NOT_OFFERED: """
        adam_beta3 adam_epsilon2 asft_alpha bnb_config_kwargs compute_loss_func
        cosine_constant_lr_ratio create_new_adapter curriculum_sampling dataloader_drop_last
        diffusion dynamic_checkpoint eaft_alpha embedding_lr embedding_lr_scale eot_tokens
        flex_attention fp8 freeze_extra_modules freeze_language_model freeze_trainable_layers
        freeze_trainable_modules full_determinism gptq init_weights jagged_restart_steps
        label_smoothing_factor lisa_layers_attr lisa_n_layers lisa_step_interval
        llama4_linearized_experts lora_bias loraplus_lr_ratio loss_type loss_watchdog_patience
        loss_watchdog_threshold lr_div_factor lr_groups lr_quadratic_warmup min_sample_len
        mixture_of_depths model_quantization_config model_quantization_config_kwargs module_dropout
        modules_to_not_convert moe_aux_loss_coef oft_block_size oft_rank oft_target
        overrides_of_model_config overrides_of_model_kwargs packing_strategy peft_layer_replication
        peft_layers_pattern peft_layers_to_transform pissa_convert pose_max_context_len
        pose_num_chunks pose_split_on_token_ids pretraining_sample_concatenation
        process_reward_model pure_bf16 qat reinit_weights relora relora_cpu_offload
        relora_prune_method relora_prune_ratio relora_steps relora_warmup_steps resize_model_vocab
        rope_scaling router_aux_loss_coef s2_attention sample_packing_sequentially shift_attn
        split_special_tokens streaming_multipack_buffer_size torchdistx_path train_from_scratch
        unfrozen_parameters upcast_layernorm upcast_lmhead_output use_asft_loss use_dft_loss
        use_eaft_loss use_llama_pro use_mca use_pose xformers_attention
    """,
    "this form of LoRA is not offered; remove the key, or see method.init": """
        alora_invocation_tokens alpha_pattern arrow_config corda_config eva_config kasa_config
        layer_replication layers_pattern layers_to_transform loftq_config lora_ga_config
        megatron_config megatron_core monteclora_config qalora_group_size rank_pattern
        runtime_config use_bdlora use_qalora velora_config
    """,
    "this optimizer is not offered; see training.optimizer": """
        optim_target_modules optimizer_cls_and_kwargs optimizers use_adam_mini use_apollo use_badam
        use_galore use_lion use_muon use_qgalore
    """,
    "write training.adam_beta1 and its like": "optim_args",
    "one process trains on one device; remove the key": "deepspeed fsdp parallelism_config",
    _DPO: """
        center_rewards_coefficient cpo_alpha disable_dropout discopop_tau dpo_beta
        dpo_generate_during_eval dpo_label_smoothing dpo_norm_loss dpo_padding_free
        dpo_use_liger_kernel dpo_use_logits_to_keep dpo_use_weighting f_alpha_divergence_coef
        f_divergence_type kto kto_chosen_weight kto_desirable_weight kto_rejected_weight
        kto_undesirable_weight label_smoothing ld_alpha loss_weights model_adapter_name orpo_alpha
        precompute_ref_batch_size precompute_ref_log_probs pref_bco_weight pref_beta pref_ftx
        pref_loss ref_adapter_name ref_model ref_model_adapters ref_model_mixup_alpha
        ref_model_quantization_bit ref_model_sync_steps reference_free rl_beta rpo_alpha simpo_gamma
        sync_ref_model use_weighting
    """,
    f"{_DPO}; of rewards it is grpo.beta": "beta",
    (
        "rewards are learned by grpo, after supervised fine-tuning: write grpo: {answers: ..., "
        "max_new_tokens: ...}, see docs/aligning.md"
    ): """
        cache_implementation cast_lm_head_to_fp32 delta entropy_coef entropy_coef_delta
        entropy_coef_max entropy_coef_min entropy_target epsilon epsilon_high generation_batch_size
        generation_kwargs importance_sampling_level mask_truncated_completions
        max_tool_calling_iterations min_p multi_objective_aggregation num_generations
        num_generations_eval num_iterations off_policy_mask_threshold reward_funcs reward_model
        reward_model_adapters reward_model_name_or_path reward_model_quantization_bit reward_weights
        sapo_temperature_neg sapo_temperature_pos scale_rewards steps_per_generation
        top_entropy_quantile trl use_adaptive_entropy use_bias_correction_kl vespo_k_neg vespo_k_pos
        vespo_lambda_neg vespo_lambda_pos vllm
    """,
    (
        "no tokens are added to a model: save it with them and rows of its embedding for them "
        "first, then name them in method.trainable_tokens"
    ): """
        add_special_tokens add_tokens added_tokens_overrides fix_untrained_tokens new_special_tokens
        new_special_tokens_config resize_token_embeddings_to_32x resize_vocab shrink_embeddings
        tokens
    """,
    "the tokenizer is the one that comes with model.id; save the model with another one": """
        tokenizer_config tokenizer_use_mistral_common
    """,
    "write a weight for each source of data.train": "interleave_probs mix_strategy",
    _SOURCE: """
        dataset_config dataset_configs dataset_mixer dataset_splits dataset_streaming
        dataset_test_split dataset_train_split datasets_config
    """,
    "write its entries into the recipe's section method": "lora lora_config peft peft_config",
    "write its entries into the recipe's section training": """
        args sft sft_config trainer training_args training_arguments
    """,
    "write its entries into the recipe's section dpo": "dpo_config",
    "write its entries into the recipe's section grpo": "grpo_config",
    "write its entries into the recipe's section model": "model_init_kwargs",
    "write its entries into the recipe's section quantization": "quantization_config",
    "it is not offered; write training.gradient_checkpointing: true": "activation_offloading",
    "it would change the effective batch; write batch_size and gradient_accumulation": """
        auto_find_batch_size
    """,
    "a template's switches are not passed on; see prompt.template": "chat_template_kwargs",
    "write training.gradient_checkpointing: true": "disable_gradient_checkpointing",
    "thoughts are written as the chat template has them; see docs/data.md": "enable_thinking",
    "name the layers that get an adapter in method.target_modules": "exclude_modules",
    "padding never carries loss; remove the key": "ignore_pad_token_for_loss",
    "for classes add a section head": "lora_task_type",
    "a head for classes is the section head": "num_labels",
    "write the tokens' texts into method.trainable_tokens": """
        peft_trainable_token_indices trainable_token_indices
    """,
    "write method.kind": "peft_type",
    "nothing is uploaded; remove it": "push_dataset_to_hub",
    "nothing is uploaded; the registry keeps models, remove the key": "push_to_hub",
    "see quantization.kind": "quantization_method",
    "nf4 is the only 4-bit type, see quantization.kind": "quantization_type",
    "rows are drawn in random order; see training.row_order": "shuffle_merged_datasets",
    "write streaming: true at the hub source in data.train": "streaming",
    "calls and tools are written as the chat template has them; see docs/data.md": "tool_format",
    "answers alone carry loss; see prompt.loss_on": "train_on_responses_only",
    "code from the hub is never run; choose a model without": "trust_remote_code",
    "one process trains on one device: write 1, or remove the key": _PARALLEL,
}

_USUAL: dict[str, tuple[object, ...]] = {
    "init_weights": (True,),
    "router_aux_loss_coef": (0.001,),
    "loss_type": ("nll", "chunked_nll"),
    "packing_strategy": ("bfd",),
    "qalora_group_size": (16,),
    "mix_strategy": ("concat",),
    "dataset_train_split": ("train",),
    "dataset_test_split": ("test", "validation"),
    "disable_gradient_checkpointing": (True,),
    "enable_thinking": (True,),
    "ignore_pad_token_for_loss": (True,),
    "lora_task_type": ("CAUSAL_LM",),
    "peft_type": ("LORA",),
    "quantization_method": ("bnb", "bitsandbytes"),
    "quantization_type": ("nf4",),
    "shuffle_merged_datasets": (True,),
    "train_on_responses_only": (True,),
    **dict.fromkeys(_PARALLEL.split(), (1,)),
}
"""What such a name may say because it happens anyway, beside null, false, 0 and what is empty."""

WITHOUT_COUNTERPART: dict[str, OldName] = {
    **{name: OldName(None, why) for why, names in _PASSED.items() for name in names.split()},
    **{
        name: OldName(None, convert=only(*_USUAL.get(name, ()), instead=instead))
        for instead, names in _REFUSED.items()
        for name in names.split()
    },
}
"""All that are known by their whole name."""


def begins_without_counterpart(name: str) -> OldName | None:
    """Find a name by how it begins.

    Args:
        name: The last key of a path.

    Returns:
        An entry that is passed over; None where no such name is known.
    """
    for beginnings, why in _BEGINNINGS.items():
        if name.startswith(tuple(beginnings.split())):
            return OldName(None, why)
    return None
