"""The models of the specification: their sizes, and how their templates make a prompt of a chat."""

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from loadgen.models.table import MODELS, find_model
from loadgen.models.template import render, render_chat, template_path, template_text

BOS = "<s>"
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)
MPT = (
    "<|im_start|>system\n"
    "- You are a helpful assistant chatbot trained by MosaicML.\n"
    "- You answer questions.\n"
    "- You are excited to be able to help the user, but will refuse to do anything that could be considered harmful to "
    "the user.\n"
    "- You are more than just an information source, you are also able to write poetry, short stories, and make jokes."
    "<|im_end|>\n"
)
LLAMA_2 = (
    "[INST] <<SYS>>\n"
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe. "
    "Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. "
    "Please ensure that your responses are socially unbiased and positive in nature.\n\n"
    "If a question does not make any sense, or is not factually coherent, explain why instead of answering something "
    "not correct. If you don't know the answer to a question, please don't share false information."
    "\n<</SYS>>\n\n"
)
HELLO = {
    "mpt-7b-chat": MPT + "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n",
    "falcon": "User: Hello!\n\nAssistant:",
    "vicuna_v1.1": VICUNA + "USER: Hello! ASSISTANT:",
    "oasst_llama": "<|prompter|>Hello!</s><|assistant|>",
    "llama-2": LLAMA_2 + "Hello![/INST]",
}
"""What FastChat 0.2.23 renders for this one message."""
SEVERAL = {
    "mpt-7b-chat": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n 1 + 1?\n\n<|im_end|>\n"
        "<|im_start|>assistant\nTwo.<|im_end|>\n<|im_start|>user\nÄ {{ b }}<|im_end|>\n<|im_start|>assistant\n"
    ),
    "falcon": "Be brief.User:  1 + 1?\n\n\nAssistant: Two.\n\nUser: Ä {{ b }}\n\nAssistant:",
    "vicuna_v1.1": "Be brief. USER:  1 + 1?\n\n ASSISTANT: Two.</s>USER: Ä {{ b }} ASSISTANT:",
    "oasst_llama": ("Be brief.<|prompter|> 1 + 1?\n\n</s><|assistant|>Two.</s><|prompter|>Ä {{ b }}</s><|assistant|>"),
    "llama-2": ("[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n 1 + 1?\n\n[/INST] Two. </s><s>[INST] Ä {{ b }} [/INST]"),
}
"""And for several turns behind a system message."""
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " 1 + 1?\n\n"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "Ä {{ b }}"},
]
TEMPLATES = sorted({model.template for model in MODELS.values() if model.template})


@pytest.mark.parametrize(
    ("name", "parameters", "kv_bytes"),
    [
        ("mpt-7b-chat", 6_649_286_656, 524_288),
        ("falcon-7b-instruct", 6_921_720_704, 8_192),
        ("vicuna-13b-v1.3", 13_015_864_320, 819_200),
        ("vicuna-7b-v1.3", 6_738_415_616, 524_288),
        ("vicuna-13b-v1.5", 13_015_864_320, 819_200),
        ("oasst-30b", 32_529_156_608, 1_597_440),
        ("llama2-70b-chat", 68_976_648_192, 327_680),
    ],
)
def test_each_model_has_its_number_of_parameters_and_its_kv_bytes_per_token(
    name: str, parameters: int, kv_bytes: int
) -> None:
    model = MODELS[name]
    assert model.shape is not None
    assert (model.shape.parameters, model.shape.kv_bytes(model.dtype)) == (parameters, kv_bytes)
    assert model.shape.weight_bytes(model.dtype) == 2 * parameters


def test_only_llama2_is_gated_and_only_mpt_is_gone() -> None:
    assert [model.name for model in MODELS.values() if model.gated] == ["llama2-70b-chat"]
    assert [model.name for model in MODELS.values() if model.substitute] == ["mpt-7b-chat"]


def test_a_model_is_found_by_its_name_and_by_its_hub_id() -> None:
    assert all(find_model(model.name) is model for model in MODELS.values())
    assert all(find_model(model.source) is model for model in MODELS.values() if model.source)
    assert find_model("gpt-2") is None


def test_every_model_has_a_template_whose_file_is_there_and_no_file_is_left_over() -> None:
    assert all(model.template for model in MODELS.values() if model.source)
    assert TEMPLATES == sorted(HELLO) == sorted(SEVERAL)
    assert sorted(template_path("falcon").parent.iterdir()) == [template_path(name) for name in TEMPLATES]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_renders_one_message_as_fastchat_does(name: str) -> None:
    assert render(template_text(name), "Hello!") == HELLO[name]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_renders_several_turns_as_fastchat_does(name: str) -> None:
    assert render_chat(template_text(name), CHAT) == SEVERAL[name]


@pytest.mark.parametrize("name", TEMPLATES)
def test_bos_stands_in_front_exactly_where_the_tokenizer_would_have_put_it(name: str) -> None:
    put_by_tokenizer = name in {"vicuna_v1.1", "oasst_llama", "llama-2"}
    assert render(template_text(name), "Hello!", BOS) == (BOS if put_by_tokenizer else "") + HELLO[name]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_means_the_same_to_an_engine_that_trims_no_blocks(name: str) -> None:
    template = ImmutableSandboxedEnvironment().from_string(template_text(name))
    assert template.render(messages=CHAT, add_generation_prompt=True) == SEVERAL[name]
    without = template.render(messages=CHAT[:-1])
    assert SEVERAL[name].startswith(without)


def test_blanks_and_line_ends_of_a_prompt_stay_as_they_are_but_falcons_double_ones() -> None:
    prompt = "  a\r\n\r\nb\n\n\n\nc \t"
    for name in TEMPLATES:
        expected = HELLO[name].replace("Hello!", "  a\nb\n\nc \t" if name == "falcon" else prompt)
        assert render(template_text(name), prompt) == expected
