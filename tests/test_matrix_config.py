"""``matrix.toml`` and the plan that it comes to: mistakes are named before anything starts."""

import re
import subprocess
import sys

import pytest
from launching import Home, engine_file

from loadgen.errors import ConfigFileError
from loadgen.matrix.config import context_of, model_of, throughput_of
from loadgen.matrix.config_file import parse, specification

LEAST = 'engines = ["llamacpp"]\nmodels = ["tiny-llama"]\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("engines = [", "Invalid value"),
        ('models = ["tiny-llama"]', "missing required field `engines`"),
        (LEAST + "sampel = 3", "unknown key 'sampel'; did you mean 'sample'?"),
        (LEAST + "quite = 3", "unknown key 'quite'; there are engines, models,"),
        (LEAST + "sample = 'x'", "Expected `int`, got `str`"),
        (LEAST + "sample = 0", "sample must be at least 1"),
        (LEAST + "repeats = 0", "repeats must be at least 1"),
        (LEAST + "measure = []", "measure is empty"),
        (LEAST + "measure = ['latency']", "Invalid enum value 'latency'"),
        (LEAST + "[throughput]\nstep = 3", "[throughput]: unknown key 'step'; did you mean 'steps'?"),
        (LEAST + "[throughput]\nsteps = '4,2'", "2 comes after 4"),
        (LEAST + "[throughput]\nprecision = 'x'", "precision must be a share"),
        (LEAST + "[throughput]\nslo = 'x=3'", "slo"),
        (LEAST + "[engine.lamacpp]\ntitle = 'x'", "[engine.lamacpp] is not in engines; did you mean 'llamacpp'?"),
        (LEAST + "[engine.llamacpp]\ntitel = 'x'", "[engine.llamacpp]: unknown key 'titel'; did you mean 'title'?"),
        (LEAST + "[engine.llamacpp.options]\nslot = 3", "llamacpp has no option 'slot': did you mean 'slots'?"),
        (LEAST + "[engine.llamacpp.throughput]\nstep = 3", "unknown key 'step'; did you mean 'steps'?"),
        (LEAST + "[model.tiny-llama]\nshap = 3", "[model.tiny-llama]: unknown key 'shap'; did you mean 'shape'?"),
        (LEAST + "[model.tiny-llama.shape]\nnum_hidden_layers = 3", "missing required field `hidden_size`"),
        (LEAST + "[model.tiny-llama]\ntemplate = 'vicuna'", "template"),
        ('engines = ["lamacpp"]\nmodels = ["tiny-llama"]', "unknown engine 'lamacpp': did you mean 'llamacpp'?"),
        ('engines = ["llamacpp"]\nmodels = ["tiny-lama"]', "unknown model 'tiny-lama': did you mean 'tiny-llama'?"),
        ('engines = ["endpoint"]\nmodels = ["tiny-llama"]', "say at which host it runs"),
        (LEAST + "[plan_for]\ngpu = 'H100'\nmemory_gib = 80", "missing required field `count`"),
        (LEAST + "[plan_for]\ngpu = 'H100'\nmemory_gib = 80\ncount = 0", "count at least 1 and at most 64"),
        (LEAST + "[plan_for]\ngpu = 'H100'\nmemory_gib = nan\ncount = 1", "memory_gib above 0"),
        (LEAST + "[plan_for]\ngpus = 'H100'", "[plan_for]: unknown key 'gpus'; did you mean 'gpu'?"),
        (
            'engines = ["vllm"]\nmodels = ["a/b"]\n[engine.vllm]\nhost = "http://me:secret@h"',
            "no credentials in the URL",
        ),
        ('engines = ["vllm"]\nmodels = ["a/b"]\n[engine.vllm]\nhost = "localhost"', "the scheme is missing"),
        (
            'engines = ["vllm"]\nmodels = ["a/b"]\n[engine.vllm]\nhost = "http://h"\nkey = "sk-secret-1"',
            "not the key itself",
        ),
        (
            'engines = ["vllm"]\nmodels = ["a/b"]\n[engine.vllm]\nhost = "http://h"\nkey = "NOT_SET"',
            "the environment variable NOT_SET, which key names, is not set",
        ),
        ("engines = 5\nmodels = []", "Expected `array`"),
        (LEAST + "model = 'x'", "Expected `object`"),
        (LEAST + "warmup = -3", "warmup must be 0 or more"),
        (LEAST + "startup_deadline = -3", "startup_deadline must be above 0"),
        (LEAST + "context = 256", "context must be more than max_tokens, 512"),
        (LEAST + "[throughput]\nstep_time = -2", "step_time must be at least 1 s"),
        ('engines = ["llamacpp", "llamacpp"]\nmodels = ["tiny-llama"]', "engines has 'llamacpp' twice"),
        ('engines = []\nmodels = ["tiny-llama"]', "engines is empty"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_the_nearest_right_one(text: str, expected: str) -> None:
    with pytest.raises(ConfigFileError) as error:
        parse(text, "m.toml")
    assert str(error.value).startswith("m.toml")
    assert expected in str(error.value)
    assert "secret" not in str(error.value)


def test_a_column_may_be_measured_otherwise_than_the_others() -> None:
    config = parse(LEAST + "[throughput]\nsteps = '1,2'\n[engine.llamacpp]\nthroughput = { step_time = 5 }", "m.toml")
    assert (throughput_of(config, "llamacpp").steps, throughput_of(config, "llamacpp").step_time) == ("1,2", 5)


def test_a_model_of_the_table_keeps_what_the_file_does_not_say() -> None:
    config = parse(
        'engines = ["llamacpp"]\nmodels = ["vicuna-13b-v1.5"]\n[model."vicuna-13b-v1.5"]\ncontext = 4096', "m"
    )
    model = model_of(config, "vicuna-13b-v1.5")
    assert (model.source, model.template) == ("lmsys/vicuna-13b-v1.5", "vicuna_v1.1")
    assert context_of(config, "vicuna-13b-v1.5", model) == 4096


def test_the_default_is_the_specifications(home: Home) -> None:
    config = parse(specification(), "the specification's")
    assert config.engines == ["transformers-4.31.0", "vllm-0.1.3", "tgi-1.0.1"]
    assert len(config.models) == 6
    assert (config.dataset, config.sample) == ("lima", 100)
    home.more = {"HF_HUB_OFFLINE": "1", "HF_TOKEN": ""}
    done = home.loadgen("matrix", "--dry-run")
    assert done.returncode == 0, done.stderr
    for words in (*config.engines, *config.models, "is gated"):
        assert words in done.stdout
    assert "Planned for 2 x NVIDIA A100-SXM4-80GB, as this machine has no GPU." in done.stdout
    lines = done.stdout.splitlines()
    cells = [line for line in lines if re.match(r"\d+\. \S+ on (Transformers 4.31.0|vLLM 0.1.3|TGI 1.0.1):$", line)]
    commands = [line for line in lines if line.startswith("   CUDA_DEVICE_ORDER=PCI_BUS_ID ")]
    assert len(cells) == len(commands) == 3 * 6
    assert sum("CUDA_VISIBLE_DEVICES=0,1 " in line for line in commands) == 3
    assert home.processes() == []


def test_a_plan_for_another_machine_is_made_only_where_there_is_no_gpu_and_it_is_named(home: Home) -> None:
    text = 'engines = ["vllm-0.1.3", "tgi"]\nmodels = ["oasst-30b"]\n'
    (home.folder / "matrix.toml").write_text(text)
    assert "it needs a GPU, and there is none" in home.loadgen("matrix", "matrix.toml", "--dry-run").stdout
    machine = '[plan_for]\ngpu = "NVIDIA L40S"\ncount = 4\nmemory_gib = 48\n'
    (home.folder / "matrix.toml").write_text(text + machine)
    planned = home.loadgen("matrix", "matrix.toml", "--dry-run").stdout
    assert "Planned for 4 x NVIDIA L40S" in planned
    assert "on GPU 0, 1, tensor parallel" in planned
    assert "ghcr.io/huggingface/text-generation-inference:3.3.7" in planned


def test_lima_without_a_token_is_told_before_anything_starts(home: Home) -> None:
    (home.folder / "matrix.toml").write_text(LEAST)
    done = home.loadgen("matrix", "matrix.toml", "--weights", "random")
    assert done.returncode == 2
    assert "HF_TOKEN" in done.stderr
    assert home.engines() == []


def test_a_sample_that_the_data_set_does_not_have_is_told_before_anything_starts(home: Home) -> None:
    (home.folder / "prompts.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    (home.folder / "matrix.toml").write_text(LEAST + 'dataset = "prompts.jsonl"\nweights = "random"')
    done = home.loadgen("matrix", "matrix.toml")
    assert done.returncode == 2
    assert "--sample" in done.stderr
    assert home.engines() == []


def test_paths_in_it_are_relative_to_the_file(home: Home) -> None:
    place = home.folder / "elsewhere"
    place.mkdir()
    engine_file(place)
    (place / "prompts.jsonl").write_text("".join(f'{{"prompt": "word {i}"}}\n' for i in range(40)))
    text = 'engines = ["./mine.py"]\nmodels = ["tiny-llama"]\ndataset = "prompts.jsonl"\nsample = 30\nwarmup = 2\n'
    (place / "matrix.toml").write_text(text + 'max_tokens = 4\nmeasure = ["speed"]\n')
    done = home.loadgen("matrix", "elsewhere/matrix.toml")
    home.assert_ended_well(done)
    assert "prompts.jsonl" in done.stdout


def test_a_disk_that_takes_nothing_is_named_with_the_way_out(home: Home) -> None:
    (home.folder / "file").write_text("")
    engine_file(home.folder)
    (home.folder / "matrix.toml").write_text(
        LEAST.replace("llamacpp", "./mine.py") + 'dataset = "samples"\nsample = 30'
    )
    home.more = {"XDG_STATE_HOME": str(home.folder / "file")}
    for arguments in (("engine", "up", "./mine.py", "--model", "tiny-llama"), ("matrix", "matrix.toml")):
        done = home.loadgen(*arguments)
        assert done.returncode == 2, done.stderr
        assert "XDG_STATE_HOME" in done.stderr
        assert "Traceback" not in done.stderr


def test_an_engine_file_that_gives_no_command_is_named(home: Home) -> None:
    engine_file(home.folder, **{"start.model.name": "start.model.nam"})
    (home.folder / "matrix.toml").write_text(
        LEAST.replace("llamacpp", "./mine.py") + 'dataset = "samples"\nsample = 30'
    )
    for arguments in (("engine", "up", "./mine.py", "--model", "tiny-llama"), ("matrix", "matrix.toml", "--dry-run")):
        done = home.loadgen(*arguments)
        assert done.returncode == 2, done.stderr
        assert "mine: it gives no command: AttributeError" in done.stderr
        assert "Traceback" not in done.stderr


def test_output_that_nobody_reads_to_its_end_is_no_fault(home: Home) -> None:
    command = f"{sys.executable} -m loadgen.cli matrix --dry-run | head -1"
    done = subprocess.run(
        ["bash", "-c", command], env=home.environment, cwd=home.folder, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_files_and_folders_that_are_not_there_are_named(home: Home) -> None:
    for arguments, expected in {
        ("none.toml",): "none.toml: No such file",
        ("--resume",): "there is no matrix in results",
        ("--resume", "none"): "--resume none: there is no matrix",
        ("--resume", "--repeats", "2"): "it takes no other option than --results",
    }.items():
        done = home.loadgen("matrix", *arguments)
        assert done.returncode == 2, arguments
        assert expected in done.stderr
        assert "Traceback" not in done.stderr
