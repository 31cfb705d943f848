"""Small models with random weights, in folders as ``save_pretrained`` writes them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

library: Any = transformers  # whose types are not those that its classes take

CLASSES = 5
_NAMES = {i: f"class {i}" for i in range(CLASSES)}
_SQUARE = {"height": 64, "width": 64}
_TOKENS = 32
_STAGES = ["stage1", "stage2", "stage3", "stage4"]
_SMALL: dict[str, Any] = {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1]}
_LABELS: dict[str, Any] = {"num_labels": CLASSES, "id2label": _NAMES}


def segformer() -> tuple[Any, Any]:
    config = library.SegformerConfig(
        **_LABELS, **_SMALL, num_attention_heads=[1, 2, 2, 2], decoder_hidden_size=16
    )
    return library.SegformerForSemanticSegmentation(config), library.SegformerImageProcessor(size=_SQUARE)


def upernet() -> tuple[Any, Any]:
    config = library.UperNetConfig(
        **_LABELS,
        backbone_config=library.ConvNextConfig(**_SMALL, out_features=_STAGES),
        hidden_size=16,
        auxiliary_channels=8,
        auxiliary_in_channels=16,
    )
    return library.UperNetForSemanticSegmentation(config), library.SegformerImageProcessor(size=_SQUARE)


def beit() -> tuple[Any, Any]:
    config = library.BeitConfig(
        **_LABELS,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        out_indices=[0, 1, 2, 3],
        pool_scales=[1, 2],
    )
    return library.BeitForSemanticSegmentation(config), library.BeitImageProcessor(
        size=_SQUARE, do_center_crop=False
    )


def _swin() -> Any:
    return library.SwinConfig(
        depths=[1, 1, 1, 1],
        embed_dim=16,
        num_heads=[1, 1, 1, 1],
        window_size=4,
        image_size=64,
        out_features=_STAGES,
    )


def maskformer() -> tuple[Any, Any]:
    decoder = library.DetrConfig(
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=9,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
    )
    config = library.MaskFormerConfig(
        **_LABELS,
        backbone_config=_swin(),
        decoder_config=decoder,
        fpn_feature_size=32,
        mask_feature_size=32,
    )
    model = library.MaskFormerForInstanceSegmentation(config)
    return _decided(model, model.class_predictor), library.MaskFormerImageProcessor(size=_SQUARE)


def mask2former() -> tuple[Any, Any]:
    config = library.Mask2FormerConfig(
        **_LABELS,
        backbone_config=_swin(),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=9,
    )
    model = library.Mask2FormerForUniversalSegmentation(config)
    return _decided(model, model.class_predictor), library.Mask2FormerImageProcessor(size=_SQUARE)


def detr() -> tuple[Any, Any]:
    config = library.DetrConfig(
        **_LABELS,
        use_timm_backbone=False,
        backbone=None,
        use_pretrained_backbone=False,
        backbone_config=library.ResNetConfig(**_SMALL, embedding_size=8, out_features=_STAGES),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=9,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
    )
    model = library.DetrForSegmentation(config)
    size = {"shortest_edge": 64, "longest_edge": 96}
    return _decided(model, model.detr.class_labels_classifier), library.DetrImageProcessor(size=size)


def eomt() -> tuple[Any, Any]:
    config = library.EomtConfig(
        **_LABELS,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=64,
        num_blocks=1,
        num_queries=9,
        num_register_tokens=0,
    )
    model = library.EomtForUniversalSegmentation(config)
    size = {"shortest_edge": 64, "longest_edge": 64}
    processor = library.EomtImageProcessor(size=size, do_pad=True, do_split_image=False)
    return _decided(model, model.class_predictor), processor


def oneformer() -> tuple[Any, Any]:
    config = library.OneFormerConfig(
        **_LABELS,
        backbone_config=_swin(),
        hidden_dim=32,
        conv_dim=32,
        mask_dim=32,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        encoder_layers=1,
        decoder_layers=2,
        query_dec_layers=1,
        num_attention_heads=2,
        num_queries=9,
        task_seq_len=_TOKENS,
    )
    model = library.OneFormerForUniversalSegmentation(config)
    characters = sorted(set("thetaskispanopticinstancesemantic"))
    tokens = [*characters, *(f"{one}</w>" for one in characters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = library.CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])
    images = library.OneFormerImageProcessor(size=_SQUARE, num_labels=CLASSES)
    # As those on the hub have it, which is not asked.
    images.repo_path, images.class_info_file = "shi-labs/oneformer_demo", "ade20k_panoptic.json"
    processor = library.OneFormerProcessor(
        image_processor=images, tokenizer=tokenizer, max_seq_length=_TOKENS, task_seq_length=_TOKENS
    )
    return _decided(model, model.model.transformer_module.decoder.class_embed), processor


def rf_detr() -> tuple[Any, Any]:
    backbone = library.RfDetrDinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=64,
        patch_size=8,
        num_windows=2,
        out_indices=[2, 4],
    )
    config = library.RfDetrConfig(
        **_LABELS,
        backbone_config=backbone,
        decoder_ffn_dim=16,
        decoder_layers=1,
        decoder_self_attention_heads=2,
        decoder_cross_attention_heads=2,
        num_queries=9,
        group_detr=1,
        d_model=32,
        intermediate_size=16,
    )
    return library.RfDetrForInstanceSegmentation(config), library.RfDetrImageProcessor(size=_SQUARE)


def _decided(model: Any, classifier: torch.nn.Linear) -> Any:
    """The model, its classifier made surer, and less given to no class: else random weights find nothing."""
    with torch.no_grad():
        classifier.weight.mul_(6)
        classifier.bias.zero_()
        classifier.bias[-1] = -2
    return model


PIXEL_MODELS: tuple[Callable[[], tuple[Any, Any]], ...] = (segformer, upernet, beit)
QUERY_MODELS: tuple[Callable[[], tuple[Any, Any]], ...] = (maskformer, mask2former, detr, eomt, oneformer)


def save(make: Callable[[], tuple[Any, Any]], folder: Path) -> tuple[Any, Any]:
    """Make a model and its processor, the same each time, and write both into ``folder``."""
    torch.manual_seed(7)
    model, processor = make()
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor
