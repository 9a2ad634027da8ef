"""More tiny random-weight models of Hugging Face: a further draw over text, pictures and sound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .zoo import ENCODER, ENDS, VISION, auto, pixels, tokens
from .zoo_vision import (
    DINO,
    LARGE,
    LLAMA,
    PICTURE,
    SERIES,
    SERIES_TENSORS,
    WORDS_AND_PICTURE,
    Maker,
    make,
    numbers,
    with_image,
    zeros,
)

TEXT = {**ENCODER, **ENDS}
WORDS = {"input_ids": tokens}
BOXES = {**WORDS, "bbox": lambda: zeros(2, 16, 4) + 3}
CLIP_VISION = {**VISION, "model_type": "clip_vision_model"}
TOWERS = {"text_config": TEXT, "vision_config": VISION, "projection_dim": 32}
DEPTH = {"neck_hidden_sizes": [16, 16, 24, 32], "fusion_hidden_size": 16}

DECODERS = (
    "aria_text", "bert-generation", "cpmant", "cwm", "deepseek_v4", "falcon_h1", "flint",
    "gemma4_text", "gpt-sw3", "gpt_neox_japanese", "granite_swa", "granitemoe_swa", "hrm_text",
    "hy_v3", "hy_v4", "hyperclovax", "internlm3", "iquestcoder", "jais2", "kolibri1", "laguna",
    "lfm3", "mellum", "ministral3", "youtu",
)  # fmt: skip
ENCODERS = (
    "data2vec-text", "ernie", "eurobert", "gte", "jina_embeddings_v3", "layoutlm", "megatron-bert",
    "roberta-prelayernorm",
)  # fmt: skip
ENCODER_DECODERS = ("blenderbot-small", "longt5")

ENCODERS_OF_MORE: Mapping[str, Maker] = {
    "dpr": make("DPRQuestionEncoder", "DPRConfig", TEXT, WORDS),
    "splinter": make("SplinterForQuestionAnswering", "SplinterConfig",
                     {**TEXT, "question_token_id": 5}, WORDS),
    "markuplm": make("MarkupLMModel", "MarkupLMConfig",
                     {**TEXT, "xpath_unit_hidden_size": 8, "max_depth": 4}, WORDS),
    "bros": make("BrosModel", "BrosConfig", {**TEXT, "dim_bbox": 8},
                 {**WORDS, "bbox": lambda: numbers(2, 16, 8)}),
    "lilt": make("LiltModel", "LiltConfig", {
        **TEXT, "hidden_size": 48, "channel_shrink_ratio": 4, "max_2d_position_embeddings": 64,
    }, BOXES),
    "layoutlmv3": make("LayoutLMv3Model", "LayoutLMv3Config", {
        **TEXT, "input_size": 32, "patch_size": 8, "coordinate_size": 8, "shape_size": 16,
        "max_2d_position_embeddings": 64,
    }, {**BOXES, **PICTURE}),
    "visual_bert": make("VisualBertModel", "VisualBertConfig",
                        {**TEXT, "visual_embedding_dim": 16},
                        {**WORDS, "visual_embeds": lambda: numbers(2, 4, 16)}),
    "lxmert": make("LxmertModel", "LxmertConfig", {
        "vocab_size": 96, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96,
        "l_layers": 1, "x_layers": 1, "r_layers": 1, "visual_feat_dim": 16,
        "max_position_embeddings": 64,
    }, {**WORDS, "visual_feats": lambda: numbers(2, 4, 16),
        "visual_pos": lambda: numbers(2, 4, 4)}),
    "bridgetower": make("BridgeTowerModel", "BridgeTowerConfig", {
        "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
        "intermediate_size": 96, "text_config": {**TEXT, "pad_token_id": 1},
        "vision_config": {
            "hidden_size": 64, "num_hidden_layers": 2, "patch_size": 8, "image_size": 32,
        },
    }, {**WORDS_AND_PICTURE, "attention_mask": lambda: zeros(2, 16) + 1}),
    "decision_transformer": make("DecisionTransformerModel", "DecisionTransformerConfig", {
        "state_dim": 5, "act_dim": 3, "hidden_size": 32, "max_ep_len": 32, "n_layer": 1,
        "n_head": 2, "n_positions": 64,
    }, {
        "states": lambda: numbers(2, 4, 5), "actions": lambda: numbers(2, 4, 3),
        "rewards": lambda: numbers(2, 4, 1), "returns_to_go": lambda: numbers(2, 4, 1),
        "timesteps": lambda: zeros(2, 4) + 1, "attention_mask": lambda: zeros(2, 4) + 1,
    }),
}  # fmt: skip

PICTURES: Mapping[str, Maker] = {
    "owlv2": make("Owlv2Model", "Owlv2Config", TOWERS, WORDS_AND_PICTURE),
    "vitpose": make("VitPoseForPoseEstimation", "VitPoseConfig", {
        "backbone_config": {
            **VISION, "model_type": "vitpose_backbone", "image_size": [32, 32],
            "patch_size": [8, 8], "out_features": ["stage2"],
        }, "num_labels": 5, "scale_factor": 2, "use_simple_decoder": True,
    }, PICTURE),
    "aimv2_vision": make("Aimv2VisionModel", "Aimv2VisionConfig", VISION, PICTURE),
    "mgp_str": make("MgpstrForSceneTextRecognition", "MgpstrConfig", {
        "image_size": [32, 32], "patch_size": 8, "hidden_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_token_length": 5, "num_character_labels": 10,
        "num_bpe_labels": 20, "num_wordpiece_labels": 20,
    }, PICTURE),
    "zoedepth": make("ZoeDepthForDepthEstimation", "ZoeDepthConfig", {
        **DEPTH, "bottleneck_features": 16, "num_relative_features": 8, "bin_embedding_dim": 16,
        "num_attractors": [4, 2, 2, 1], "backbone_config": {
            **VISION, "model_type": "beit", "num_hidden_layers": 4,
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
            "reshape_hidden_states": False,
        },
    }, PICTURE),
    "prompt_depth_anything": make(
        "PromptDepthAnythingForDepthEstimation", "PromptDepthAnythingConfig", {
            **DEPTH, "backbone_config": DINO, "reassemble_hidden_size": 64, "patch_size": 8,
            "head_hidden_size": 8,
        }, PICTURE),
    "vitmatte": make("VitMatteForImageMatting", "VitMatteConfig", {
        "backbone_config": {
            "model_type": "vitdet", "hidden_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 4, "image_size": 32, "pretrain_image_size": 32,
            "patch_size": 16, "num_channels": 4, "out_features": ["stage1"],
        }, "hidden_size": 32, "convstream_hidden_sizes": [8, 8, 16],
        "fusion_hidden_sizes": [16, 16, 8, 8],
    }, {"pixel_values": lambda: pixels(32, 2, 4)}),
    "seggpt": make("SegGptModel", "SegGptConfig", {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "image_size": [32, 16], "pretrain_image_size": 16, "patch_size": 4, "mlp_dim": 48,
        "intermediate_hidden_state_indices": [0, 1], "merge_index": 0, "decoder_hidden_size": 8,
    }, {name: lambda: pixels(16)
        for name in ("pixel_values", "prompt_pixel_values", "prompt_masks")}),
    "vipllava": make("VipLlavaForConditionalGeneration", "VipLlavaConfig", {
        "text_config": LLAMA, "vision_config": {**CLIP_VISION, "num_hidden_layers": 4},
        "image_token_index": 95, "image_seq_length": 16, "vision_feature_layers": [-2, -3],
    }, {"input_ids": lambda: with_image(16), **PICTURE}, use_cache=False),
    "internvl": make("InternVLForConditionalGeneration", "InternVLConfig", {
        "text_config": LLAMA, "image_token_id": 95, "image_seq_length": 4,
        "downsample_ratio": 0.5,
        "vision_config": {**VISION, "image_size": [32, 32], "patch_size": [8, 8]},
    }, {"input_ids": lambda: with_image(4), **PICTURE}, use_cache=False),
}  # fmt: skip

SOUNDS_AND_TIMES: Mapping[str, Maker] = {
    "musicgen_decoder": make("MusicgenForCausalLM", "MusicgenDecoderConfig", {
        "vocab_size": 96, "hidden_size": 64, "ffn_dim": 96, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_codebooks": 2, "max_position_embeddings": 64,
        "pad_token_id": 0, "bos_token_id": 1,
    }, {"input_ids": lambda: tokens(8, 4)}, use_cache=False),
    "qwen2_audio_encoder": make("Qwen2AudioEncoder", "Qwen2AudioEncoderConfig", {
        "num_mel_bins": 16, "d_model": 64, "encoder_layers": 1, "encoder_attention_heads": 4,
        "encoder_ffn_dim": 96, "max_source_positions": 16,
    }, {"input_features": lambda: numbers(2, 16, 32)}),
    "seamless_m4t_text": make("SeamlessM4TForTextToText", "SeamlessM4TConfig", {
        **ENDS, "vocab_size": 96, "hidden_size": 64, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 96,
        "decoder_ffn_dim": 96, "speech_encoder_layers": 1, "max_position_embeddings": 64,
        "t2u_encoder_layers": 1, "t2u_decoder_layers": 1, "t2u_vocab_size": 40,
        "decoder_start_token_id": 1,
    }, {**WORDS, "decoder_input_ids": lambda: tokens(8)}, use_cache=False),
    "autoformer": make("AutoformerModel", "AutoformerConfig", {
        **SERIES, "label_length": 4, "moving_average": 3, "autocorrelation_factor": 1,
    }, SERIES_TENSORS),
}  # fmt: skip

WIDER: Mapping[str, Maker] = {
    **{kind: auto(kind, "CausalLM") for kind in DECODERS},
    **{kind: auto(kind, "MaskedLM") for kind in ENCODERS},
    **{kind: auto(kind, "Seq2SeqLM") for kind in ENCODER_DECODERS},
    **ENCODERS_OF_MORE, **PICTURES, **SOUNDS_AND_TIMES,
}  # fmt: skip

RT_RESNET: Mapping[str, Any] = {
    "model_type": "rt_detr_resnet", "embedding_size": 16, "hidden_sizes": [16, 24, 32, 40],
    "depths": [1, 1, 1, 1], "layer_type": "basic",
    "out_features": ["stage2", "stage3", "stage4"],
}  # fmt: skip

# Agree once choices between equal candidates are taken as PyTorch took them.
TIED: Mapping[str, Maker] = {
    "afmoe": auto("afmoe", "CausalLM"),
    "rt_detr": make("RTDetrForObjectDetection", "RTDetrConfig", {
        "backbone_config": RT_RESNET, "encoder_hidden_dim": 32, "encoder_ffn_dim": 48,
        "encoder_in_channels": [24, 32, 40], "encoder_attention_heads": 4, "d_model": 32,
        "num_queries": 6, "decoder_in_channels": [32, 32, 32], "decoder_ffn_dim": 48,
        "decoder_n_points": 2, "decoder_layers": 2, "decoder_attention_heads": 4,
        "num_denoising": 0, "feat_strides": [8, 16, 32],
    }, LARGE),
}  # fmt: skip

# What conformance/architectures.toml says cannot be compiled, and why.
REFUSED_TOO: Mapping[str, Maker] = {
    "switch_transformers": auto("switch_transformers", "Seq2SeqLM"),
    "longformer": auto("longformer", "MaskedLM"),
    "led": auto("led", "Seq2SeqLM"),
    "fsmt": auto("fsmt", "Seq2SeqLM"),
    "jetmoe": auto("jetmoe", "CausalLM"),
    "tapas": make("TapasModel", "TapasConfig", TEXT, WORDS),
}
