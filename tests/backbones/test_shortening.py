import pytest
import torch

from mmret.backbones import load_backbone

TEXTS = ["a dog", "a photo of the dog that costs two stars"]


def read_lengths(backbone):
    """The lengths that the text tower's blocks are given, in a list that grows."""
    lengths = []
    tower = getattr(backbone.model, "text", backbone.model)
    tower.ln_final.register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].shape[1]))
    return lengths


@torch.no_grad()
def test_a_causal_tower_reads_to_the_end_of_the_longest_text(model_folder):
    backbone = load_backbone(str(model_folder("clip")))
    lengths = read_lengths(backbone)
    tokens = backbone.tokenize(TEXTS)
    short = backbone.encode_text(tokens)
    assert lengths == [int(tokens.argmax(1).max()) + 1]
    assert lengths[0] < tokens.shape[1]
    torch.testing.assert_close(short, backbone.model.encode_text(tokens))


@torch.no_grad()
def test_a_bidirectional_tower_reads_everything(model_folder):
    backbone = load_backbone(str(model_folder("bidirectional")))
    lengths = read_lengths(backbone)
    backbone.encode_text(backbone.tokenize(TEXTS))
    assert lengths == [40]


def test_the_tower_is_as_before_afterwards_even_after_an_error(model_folder):
    backbone = load_backbone(str(model_folder("clip")))
    model = backbone.model
    before = (model.positional_embedding, model.attn_mask)
    with pytest.raises(IndexError):
        backbone.encode_text(torch.tensor([[49406, 60000, 0]]))
    assert (model.positional_embedding is before[0]) and (model.attn_mask is before[1])
    assert len(model.positional_embedding) == 40


def test_positions_are_trained_through_it(model_folder):
    backbone = load_backbone(str(model_folder("clip"))).unfreeze()
    tokens = backbone.tokenize(["a dog"])
    backbone.encode_text(tokens).square().sum().backward()
    moved = backbone.model.positional_embedding.grad.abs().sum(dim=1) > 0
    assert moved.nonzero().flatten().tolist() == list(range(int(tokens.argmax()) + 1))
