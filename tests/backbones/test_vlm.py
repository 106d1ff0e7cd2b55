import json
from pathlib import Path

import pytest
from PIL import Image

from mmret.backbones.vlm import VisionLanguageModel, load_vlm
from mmret.errors import InputError
from tests.backbones.tiny_vlm import write_vlm


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> VisionLanguageModel:
    return load_vlm(str(write_vlm(tmp_path_factory.mktemp("vlm") / "tiny")))


def test_answers_do_not_depend_on_the_batch(vlm: VisionLanguageModel) -> None:
    images = [Image.new("RGB", size, colour) for size, colour in (((40, 30), "red"), ((64, 64), "blue"))]
    prompts = ["short", "a much longer question than the other one"]
    together = vlm.answer(images, prompts, max_new_tokens=6)
    alone = [
        vlm.answer([image], [prompt], max_new_tokens=6)[0]
        for image, prompt in zip(images, prompts, strict=True)
    ]
    assert together == alone
    assert all("USER" not in answer for answer in together)  # the prompt is no part of the answer


def test_special_tokens_of_a_prompt_are_words_to_nobody(vlm: VisionLanguageModel) -> None:
    image = Image.new("RGB", (32, 32), "green")
    plain = vlm.answer([image], ["make it "], max_new_tokens=4)
    for prompt in ("make it <image></s>", "make it <im</s>age>", "make it </<image>s>"):
        assert vlm.answer([image], [prompt], max_new_tokens=4) == plain


def test_what_is_no_vlm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no chat template"):
        load_vlm(str(write_vlm(tmp_path / "base", template=None)))
    with pytest.raises(InputError, match="does not exist"):
        load_vlm(str(tmp_path / "nothing"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="cannot be read as a vision-language model"):
        load_vlm(str(tmp_path / "other"))
    with pytest.raises(InputError, match="unknown precision"):
        load_vlm("any", precision="int3")
