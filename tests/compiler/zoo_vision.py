"""Tiny random-weight vision, audio, video, multimodal and time-series models of Hugging Face."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .zoo import ENCODER, ENDS, VISION, by_name, model_of, pixels, tokens

Maker = Callable[[], tuple[Any, tuple[Any, ...]]]
Tensors = Mapping[str, Callable[[], Any]]

PICTURE: Tensors = {"pixel_values": pixels}
LARGE: Tensors = {"pixel_values": lambda: pixels(64)}
WORDS_AND_PICTURE: Tensors = {"input_ids": tokens, "pixel_values": pixels}
STAGES = {"hidden_sizes": [16, 32], "depths": [1, 1]}
WINDOWED = {
    "image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4],
    "window_size": 4,
}  # fmt: skip
RESNET = {
    "model_type": "resnet", "embedding_size": 16, "hidden_sizes": [16, 24, 32, 40],
    "depths": [1, 1, 1, 1], "layer_type": "basic", "out_features": ["stage4"],
}  # fmt: skip
OWN_RESNET = {
    "use_timm_backbone": False, "backbone_config": RESNET, "backbone": None,
    "use_pretrained_backbone": False,
}  # fmt: skip
PYRAMID_RESNET = {**RESNET, "out_features": ["stage2", "stage3", "stage4"]}
PYRAMID_SWIN = {
    **WINDOWED, "model_type": "swin", "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4],
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}  # fmt: skip
DINO = {**VISION, "model_type": "dinov2", "mlp_ratio": 2, "num_hidden_layers": 4,
        "out_features": ["stage1", "stage2", "stage3", "stage4"], "reshape_hidden_states": False,
        }  # fmt: skip
DETECTOR = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "num_queries": 6,
}  # fmt: skip
SPEECH = {
    "vocab_size": 40, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "conv_dim": [16, 16, 16], "conv_stride": [5, 2, 2],
    "conv_kernel": [10, 3, 3], "num_feat_extract_layers": 3, "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4, "do_stable_layer_norm": False,
}  # fmt: skip
VIDEO = {**VISION, "num_frames": 4, "tubelet_size": 2}
SERIES = {
    "prediction_length": 4, "context_length": 8, "lags_sequence": [1, 2], "num_time_features": 2,
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
}  # fmt: skip
TEXT_TOWER = {**ENCODER, **ENDS}
LLAMA = {
    "model_type": "llama", "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    **ENDS,
}  # fmt: skip


def numbers(*shape: int, seed: int = 4) -> Any:
    """Reproducible normal numbers."""
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def zeros(*shape: int) -> Any:
    """Integers."""
    import torch

    return torch.zeros(*shape, dtype=torch.int64)


def make(
    model: str, config: str, values: Mapping[str, Any], tensors: Tensors, **fixed: Any
) -> Maker:
    """A model called with these keyword tensors and fixed values."""

    def make() -> tuple[Any, tuple[Any, ...]]:
        import transformers

        built = model_of(model, getattr(transformers, config)(**values))
        return by_name(built, tuple(tensors), **fixed), tuple(
            tensor() for tensor in tensors.values()
        )

    return make


def _kind(kind: str, head: str, values: Mapping[str, Any], tensors: Tensors = PICTURE) -> Maker:
    return make(kind + head, f"{kind}Config", values, tensors)


def _sound(length: int = 800) -> Tensors:
    return {"input_values": lambda: numbers(2, length)}


SERIES_TENSORS: Tensors = {
    "past_values": lambda: numbers(2, 10),
    "past_time_features": lambda: numbers(2, 10, 2, seed=5),
    "past_observed_mask": lambda: zeros(2, 10) + 1,
    "future_values": lambda: numbers(2, 4, seed=6),
    "future_time_features": lambda: numbers(2, 4, 2, seed=7),
}  # fmt: skip

IMAGES: Mapping[str, Maker] = {
    "beit": _kind("Beit", "ForImageClassification",
                  {**VISION, "use_relative_position_bias": True}),
    "data2vec_vision": _kind("Data2VecVision", "ForImageClassification",
                             {**VISION, "use_relative_position_bias": True}),
    "deit": _kind("DeiT", "ForImageClassificationWithTeacher", VISION),
    "vit_msn": _kind("ViTMSN", "Model", VISION),
    "vit_mae": _kind("ViTMAE", "ForPreTraining", {
        **VISION, "decoder_hidden_size": 32, "decoder_intermediate_size": 48,
        "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 4,
    }, {**PICTURE, "noise": lambda: numbers(2, 16)}),
    "dinov2": _kind("Dinov2", "ForImageClassification", {**VISION, "mlp_ratio": 2}),
    "dinov2_with_registers": _kind("Dinov2WithRegisters", "ForImageClassification",
                                   {**VISION, "mlp_ratio": 2, "use_swiglu_ffn": True}),
    "dinov3_vit": _kind("DINOv3ViT", "Model", VISION),
    "dinov3_convnext": _kind("DINOv3ConvNext", "Model", STAGES),
    "ijepa": _kind("IJepa", "ForImageClassification", VISION),
    "pixio": _kind("Pixio", "Model", VISION),
    "swin": _kind("Swin", "ForImageClassification", WINDOWED),
    "swinv2": _kind("Swinv2", "ForImageClassification", WINDOWED),
    "donut_swin": _kind("DonutSwin", "Model", WINDOWED),
    "swin2sr": _kind("Swin2SR", "ForImageSuperResolution",
                     {**WINDOWED, "embed_dim": 16, "patch_size": 1, "num_channels": 3}),
    "maskformer_swin": _kind("MaskFormerSwin", "Backbone", WINDOWED),
    "hiera": _kind("Hiera", "ForImageClassification", {
        "embed_dim": 16, "image_size": [64, 64], "depths": [1, 1, 1], "num_heads": [1, 2, 4],
        "masked_unit_attention": [True, False, False], "num_query_pool": 2,
        "masked_unit_size": [4, 4],
    }, LARGE),
    "focalnet": _kind("FocalNet", "ForImageClassification", {
        "image_size": 32, "embed_dim": 16, "hidden_sizes": [16, 32], "depths": [1, 1],
        "focal_levels": [2, 2], "focal_windows": [3, 3],
    }),
    "cvt": _kind("Cvt", "ForImageClassification", {
        "embed_dim": [16, 32, 48], "num_heads": [1, 2, 3], "depth": [1, 2, 3],
    }),
    "levit": _kind("Levit", "ForImageClassification", {
        "image_size": 64, "hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 3, 4],
        "depths": [1, 1, 1], "key_dim": [8, 8, 8],
    }, LARGE),
    "pvt": _kind("Pvt", "ForImageClassification", {
        "image_size": 64, "hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 1, 1],
        "mlp_ratios": [2, 2, 2, 2],
    }, LARGE),
    "pvt_v2": _kind("PvtV2", "ForImageClassification", {
        "image_size": 64, "hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 1, 1],
        "mlp_ratios": [2, 2, 2, 2],
    }, LARGE),
    "poolformer": _kind("PoolFormer", "ForImageClassification", {
        "hidden_sizes": [16, 32, 40, 48], "depths": [1, 1, 1, 1], "layer_scale_init_value": 0.5,
    }),
    "mobilenet_v1": _kind("MobileNetV1", "ForImageClassification", {"depth_multiplier": 0.25}),
    "mobilenet_v2": _kind("MobileNetV2", "ForSemanticSegmentation", {"depth_multiplier": 0.25},
                          LARGE),
    "mobilevit": _kind("MobileViT", "Model", {
        "image_size": 64, "hidden_sizes": [32, 40, 48],
        "neck_hidden_sizes": [8, 16, 16, 24, 24, 32, 48], "initializer_range": 0.2,
    }, LARGE),
    "mobilevitv2": _kind("MobileViTV2", "Model", {
        "image_size": 64, "width_multiplier": 0.25, "initializer_range": 0.2,
    }, LARGE),
    "regnet": _kind("RegNet", "ForImageClassification", {
        **STAGES, "embedding_size": 16, "groups_width": 8,
    }),
    "bit": _kind("Bit", "ForImageClassification", {
        **STAGES, "embedding_size": 16, "num_groups": 4, "global_padding": "same",
    }),
    "convnextv2": _kind("ConvNextV2", "ForImageClassification", {**STAGES, "num_stages": 2}),
    "swiftformer": _kind("SwiftFormer", "ForImageClassification", {
        "image_size": 64, "embed_dims": [16, 24, 32, 40], "depths": [1, 1, 1, 1],
    }, LARGE),
    "textnet": _kind("TextNet", "Model", {
        "stem_out_channels": 16, "hidden_sizes": [16, 24, 24, 32, 32],
        "conv_layer_kernel_sizes": [[[3, 3]], [[1, 3]], [[3, 1]], [[3, 3]]],
        "conv_layer_strides": [[2], [1], [2], [2]],
    }),
    "hgnet_v2": _kind("HGNetV2", "ForImageClassification", {
        "stem_channels": [3, 16, 16], "stage_in_channels": [16, 24], "stage_mid_channels": [8, 8],
        "stage_out_channels": [24, 32], "stage_num_blocks": [1, 1], "depths": [1, 1],
        "stage_downsample": [False, True], "stage_light_block": [False, True],
        "stage_kernel_size": [3, 5], "stage_numb_of_layers": [2, 2], "hidden_sizes": [24, 32],
        "embedding_size": 16, "stage_downsample_strides": [2, 2],
    }),
    "imagegpt": _kind("ImageGPT", "ForImageClassification", {
        "vocab_size": 97, "n_positions": 32, "n_embd": 64, "n_layer": 2, "n_head": 4,
    }, {"input_ids": tokens}),
    "perceiver": _kind("Perceiver", "ForImageClassificationLearned", {
        "image_size": 16, "num_latents": 8, "d_latents": 32, "d_model": 32,
        "num_self_attends_per_block": 1, "num_self_attention_heads": 4,
        "num_cross_attention_heads": 1,
    }, {"pixel_values": lambda: pixels(16)}),
    "vitdet": _kind("VitDet", "Model", {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32,
        "pretrain_image_size": 32, "patch_size": 8, "window_size": 2, "window_block_indices": [0],
        "use_relative_position_embeddings": True,
    }),
}  # fmt: skip

DENSE: Mapping[str, Maker] = {
    "dpt": _kind("DPT", "ForDepthEstimation", {
        **VISION, "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [16, 16, 24, 32], "fusion_hidden_size": 16,
    }),
    "glpn": _kind("GLPN", "ForDepthEstimation", {
        "hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 1, 1], "mlp_ratios": [2, 2, 2, 2],
        "decoder_hidden_size": 16,
    }, LARGE),
    "depth_anything": _kind("DepthAnything", "ForDepthEstimation", {
        "backbone_config": DINO, "reassemble_hidden_size": 64, "patch_size": 8,
        "neck_hidden_sizes": [16, 16, 24, 32], "fusion_hidden_size": 16, "head_hidden_size": 8,
    }),
    "upernet": _kind("UperNet", "ForSemanticSegmentation", {
        "backbone_config": PYRAMID_SWIN, "hidden_size": 16, "num_labels": 5,
        "auxiliary_channels": 16, "auxiliary_in_channels": 64, "pool_scales": [1, 2],
    }, LARGE),
    "beit_segmentation": _kind("Beit", "ForSemanticSegmentation", {
        **VISION, "num_hidden_layers": 4, "out_indices": [1, 2, 3, 4], "num_labels": 5,
        "pool_scales": [1, 2], "auxiliary_channels": 16,
    }),
    "maskformer": _kind("MaskFormer", "ForInstanceSegmentation", {
        "backbone_config": PYRAMID_SWIN, "fpn_feature_size": 32, "mask_feature_size": 32,
        "decoder_config": {"model_type": "detr", **DETECTOR},
    }, LARGE),
    "mask2former": _kind("Mask2Former", "ForUniversalSegmentation", {
        "backbone_config": PYRAMID_SWIN, "feature_size": 32, "mask_feature_size": 32,
        "hidden_dim": 32, "encoder_feedforward_dim": 48, "encoder_layers": 1, "decoder_layers": 2,
        "num_attention_heads": 4, "dim_feedforward": 48, "num_queries": 6,
    }, LARGE),
    "detr": _kind("Detr", "ForObjectDetection", {
        **DETECTOR, **OWN_RESNET,
    }, LARGE),
    "conditional_detr": _kind("ConditionalDetr", "ForObjectDetection", {
        **DETECTOR, **OWN_RESNET,
    }, LARGE),
    "deformable_detr": _kind("DeformableDetr", "ForObjectDetection", {
        **DETECTOR, **OWN_RESNET, "backbone_config": PYRAMID_RESNET, "num_feature_levels": 3,
    }, LARGE),
    "dab_detr": _kind("DabDetr", "ForObjectDetection", {
        **DETECTOR, "hidden_size": 32, **OWN_RESNET,
    }, LARGE),
    "table_transformer": _kind("TableTransformer", "ForObjectDetection", {
        **DETECTOR, **OWN_RESNET,
    }, LARGE),
    "yolos": _kind("Yolos", "ForObjectDetection", {
        **VISION, "image_size": [32, 32], "num_detection_tokens": 5,
    }),
    "sam": make("SamModel", "SamConfig", {
        "vision_config": {
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32,
            "patch_size": 8, "window_size": 2, "global_attn_indexes": [1], "output_channels": 16,
            "mlp_dim": 48, "num_pos_feats": 8,
        },
        "prompt_encoder_config": {
            "hidden_size": 16, "image_size": 32, "patch_size": 8, "mask_input_channels": 4,
        },
        "mask_decoder_config": {
            "hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16,
            "num_hidden_layers": 1,
        },
    }, {**PICTURE, "input_points": lambda: numbers(2, 1, 3, 2).abs() * 8}),
    "vitpose_backbone": _kind("VitPoseBackbone", "", {
        **VISION, "image_size": [32, 32], "patch_size": [8, 8],
    }),
}  # fmt: skip

TOWERS: Mapping[str, Maker] = {
    "siglip": _kind("Siglip", "Model", {"text_config": TEXT_TOWER, "vision_config": VISION},
                    WORDS_AND_PICTURE),
    "siglip_vision": make("SiglipVisionModel", "SiglipVisionConfig", VISION, PICTURE),
    "metaclip_2": _kind("MetaClip2", "Model", {
        "text_config": TEXT_TOWER, "vision_config": VISION, "projection_dim": 32,
    }, WORDS_AND_PICTURE),
    "chinese_clip": _kind("ChineseCLIP", "Model", {
        "text_config": TEXT_TOWER, "vision_config": VISION, "projection_dim": 32,
    }, WORDS_AND_PICTURE),
    "altclip": _kind("AltCLIP", "Model", {
        "text_config": {**TEXT_TOWER, "project_dim": 32}, "vision_config": VISION,
        "projection_dim": 32,
    }, WORDS_AND_PICTURE),
    "clipseg": _kind("CLIPSeg", "ForImageSegmentation", {
        "text_config": TEXT_TOWER, "vision_config": VISION, "projection_dim": 32,
        "extract_layers": [0, 1], "reduce_dim": 16, "decoder_num_attention_heads": 4,
        "decoder_intermediate_size": 32,
    }, WORDS_AND_PICTURE),
    "blip": _kind("Blip", "Model", {
        "text_config": TEXT_TOWER, "vision_config": VISION, "projection_dim": 32,
    }, WORDS_AND_PICTURE),
    "groupvit": _kind("GroupViT", "Model", {
        "text_config": TEXT_TOWER, "vision_config": {
            **VISION, "depths": [1, 1], "num_group_tokens": [8, 0], "num_output_groups": [4, 0],
        }, "projection_dim": 32, "projection_intermediate_dim": 64,
    }, WORDS_AND_PICTURE),
    "owlvit": _kind("OwlViT", "Model", {
        "text_config": TEXT_TOWER, "vision_config": VISION, "projection_dim": 32,
    }, WORDS_AND_PICTURE),
    "flava": _kind("FlavaImage", "Model", VISION),
    "git": _kind("Git", "ForCausalLM", {**TEXT_TOWER, "vision_config": VISION},
                 WORDS_AND_PICTURE),
    "llava": make("LlavaForConditionalGeneration", "LlavaConfig", {
        "text_config": LLAMA, "vision_config": {**VISION, "model_type": "clip_vision_model"},
        "image_token_index": 95, "image_seq_length": 16,
    }, {"input_ids": lambda: with_image(16), "pixel_values": pixels}, use_cache=False),
}  # fmt: skip

VIDEOS: Mapping[str, Maker] = {
    "videomae": _kind("VideoMAE", "ForVideoClassification", VIDEO,
                      {"pixel_values": lambda: numbers(2, 4, 3, 32, 32)}),
    "timesformer": _kind("Timesformer", "ForVideoClassification", VIDEO,
                         {"pixel_values": lambda: numbers(2, 4, 3, 32, 32)}),
    "vivit": _kind("Vivit", "ForVideoClassification", {**VIDEO, "tubelet_size": [2, 8, 8]},
                   {"pixel_values": lambda: numbers(2, 4, 3, 32, 32)}),
    "vjepa2": make("VJEPA2Model", "VJEPA2Config", {
        **VISION, "crop_size": 32, "frames_per_clip": 4, "tubelet_size": 2, "mlp_ratio": 2,
        "pred_hidden_size": 32, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1,
    }, {"pixel_values_videos": lambda: numbers(1, 4, 3, 32, 32)}, skip_predictor=True),
}  # fmt: skip

SOUNDS: Mapping[str, Maker] = {
    "wav2vec2": _kind("Wav2Vec2", "ForCTC", SPEECH, _sound()),
    "hubert": _kind("Hubert", "ForCTC", SPEECH, _sound()),
    "wavlm": _kind("WavLM", "ForCTC", SPEECH, _sound()),
    "unispeech": _kind("UniSpeech", "ForCTC", SPEECH, _sound()),
    "unispeech_sat": _kind("UniSpeechSat", "ForCTC", SPEECH, _sound()),
    "sew": _kind("SEW", "ForCTC", SPEECH, _sound()),
    "sew_d": _kind("SEWD", "ForCTC", {
        **SPEECH, "max_position_embeddings": 64, "position_buckets": 16,
    }, _sound()),
    "data2vec_audio": _kind("Data2VecAudio", "ForCTC", {
        **SPEECH, "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5,
    }, _sound()),
    "wav2vec2_conformer": _kind("Wav2Vec2Conformer", "ForCTC", {
        **SPEECH, "conv_depthwise_kernel_size": 5,
    }, _sound()),
    "wav2vec2_bert": _kind("Wav2Vec2Bert", "ForCTC", {
        **SPEECH, "feature_projection_input_dim": 20, "conv_depthwise_kernel_size": 5,
    }, {"input_features": lambda: numbers(2, 24, 20)}),
    "ast": _kind("AST", "ForAudioClassification", {
        **VISION, "max_length": 32, "num_mel_bins": 16, "frequency_stride": 4, "time_stride": 4,
    }, {"input_values": lambda: numbers(2, 32, 16)}),
    "speech_to_text": _kind("Speech2Text", "ForConditionalGeneration", {
        **TEXT_TOWER, "d_model": 64, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 96,
        "decoder_ffn_dim": 96, "input_feat_per_channel": 20, "conv_channels": 32,
        "max_source_positions": 32, "max_target_positions": 32, "decoder_start_token_id": 1,
    }, {"input_features": lambda: numbers(2, 32, 20), "decoder_input_ids": lambda: tokens(8)}),
    "speecht5": _kind("SpeechT5", "ForSpeechToText", {
        **SPEECH, **TEXT_TOWER, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 96,
        "decoder_ffn_dim": 96, "decoder_start_token_id": 1, "apply_spec_augment": False,
    }, {**_sound(), "decoder_input_ids": lambda: tokens(8)}),
    "moonshine": _kind("Moonshine", "ForConditionalGeneration", {
        "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96,
        "encoder_num_hidden_layers": 1, "decoder_num_hidden_layers": 1,
        "encoder_num_attention_heads": 4, "decoder_num_attention_heads": 4,
        "decoder_start_token_id": 1, **ENDS,
    }, {"input_values": lambda: numbers(2, 2000), "decoder_input_ids": lambda: tokens(8)}),
    "dac": _kind("Dac", "Model", {
        "encoder_hidden_size": 8, "downsampling_ratios": [2, 4], "decoder_hidden_size": 32,
        "upsampling_ratios": [4, 2], "n_codebooks": 2, "codebook_size": 32, "codebook_dim": 4,
    }, {"input_values": lambda: numbers(1, 1, 320)}),
    "clap_audio": make("ClapAudioModel", "ClapAudioConfig", {
        "spec_size": 32, "patch_size": 4, "patch_stride": [4, 4], "num_mel_bins": 16,
        "patch_embeds_hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 4],
        "window_size": 4, "hidden_size": 32, "num_hidden_layers": 2,
    }, {"input_features": lambda: numbers(2, 1, 64, 16)}),
    "parakeet": _kind("ParakeetEncoder", "", {
        "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
        "intermediate_size": 96, "num_mel_bins": 16, "subsampling_conv_channels": 16,
        "max_position_embeddings": 64, "layerdrop": 0.0,
    }, {"input_features": lambda: numbers(2, 64, 16)}),
}  # fmt: skip

TIMES: Mapping[str, Maker] = {
    "patchtst": make("PatchTSTForPrediction", "PatchTSTConfig", {
        "num_input_channels": 2, "context_length": 16, "patch_length": 4, "patch_stride": 4,
        "d_model": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "ffn_dim": 48,
        "prediction_length": 4, "loss": "mse",
    }, {"past_values": lambda: numbers(2, 16, 2)}),
    "patchtsmixer": make("PatchTSMixerForPrediction", "PatchTSMixerConfig", {
        "num_input_channels": 2, "context_length": 16, "patch_length": 4, "patch_stride": 4,
        "d_model": 8, "num_layers": 1, "prediction_length": 4,
    }, {"past_values": lambda: numbers(2, 16, 2)}),
    "time_series_transformer": _kind("TimeSeriesTransformer", "Model", SERIES, SERIES_TENSORS),
    "informer": _kind("Informer", "Model", SERIES, SERIES_TENSORS),
    "timesfm": _kind("TimesFm", "Model", {
        "patch_length": 8, "context_length": 32, "horizon_length": 8, "hidden_size": 64,
        "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "head_dim": 16,
        "freq_size": 3,
    }, {
        "past_values": lambda: numbers(2, 32), "past_values_padding": lambda: zeros(2, 32),
        "freq": lambda: zeros(2, 1),
    }),
}  # fmt: skip


def with_image(count: int) -> Any:
    """Tokens of two texts that each begin with an image of ``count`` places."""
    import torch

    return torch.cat([torch.full((2, count), 95), tokens(8) % 90 + 3], dim=1)


OTHERS_VISION: Mapping[str, Maker] = {**IMAGES, **DENSE, **TOWERS, **VIDEOS, **SOUNDS, **TIMES}

# What conformance/architectures.toml says cannot be compiled, and why.
REFUSED: Mapping[str, Maker] = {
    "eomt": _kind("Eomt", "ForUniversalSegmentation", {
        **VISION, "num_queries": 6, "num_blocks": 1, "num_upscale_blocks": 1,
        "num_register_tokens": 2,
    }),
    "vilt": _kind("Vilt", "Model", {**VISION, **TEXT_TOWER}, {
        **WORDS_AND_PICTURE, "pixel_mask": lambda: zeros(2, 32, 32) + 1,
    }),
    "encodec": _kind("Encodec", "Model", {
        "num_filters": 8, "hidden_size": 16, "codebook_dim": 16, "codebook_size": 32,
        "upsampling_ratios": [4, 2], "num_lstm_layers": 1, "target_bandwidths": [24.0],
    }, {"input_values": lambda: numbers(1, 1, 320)}),
}  # fmt: skip
