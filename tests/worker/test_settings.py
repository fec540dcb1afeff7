"""Flags, variables and TOML keys are the fields of one dataclass tree; what is unknown or wrong is named."""

import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import ConfigError
from worker.settings.config import ServeConfig
from worker.settings.groups import LogFormat
from worker.settings.sources import Resolved, resolve, to_toml
from worker.settings.table import AUTO, Setting, build, settings

BY_KEY = {setting.key: setting for setting in settings()}


def leaves(config: type = ServeConfig, group: str = "") -> list[str]:
    """Lists the keys of a tree of dataclasses by hand, the derived field left out."""
    kinds = get_type_hints(config)
    keys = []
    for one in fields(config):
        if is_dataclass(kinds[one.name]):
            keys += leaves(kinds[one.name], f"{one.name}.")
        elif one.name != "pins":
            keys.append(group + one.name)
    return keys


def resolve_file(tmp_path: Path, text: str, **variables: str) -> Resolved:
    """Resolves a TOML file, with no flag."""
    path = tmp_path / "pool.toml"
    path.write_text(text, encoding="utf-8")
    return resolve({}, variables, path)


def made(resolved: Resolved, **derived: Any) -> ServeConfig:
    """Builds a configuration of one process."""
    return build(resolved.values, resolved.sources, processes=1, pins=(None,), **derived)


def test_every_field_is_a_setting_with_a_help() -> None:
    """No setting can be forgotten, and none is without its line of documentation."""
    assert sorted(BY_KEY) == sorted(leaves())
    assert [setting.key for setting in settings() if not setting.help.endswith(".")] == []


@pytest.mark.parametrize("names", [lambda one: one.flag, lambda one: one.variable])
def test_names_do_not_collide(names: Any) -> None:
    """Each flag and each variable belongs to one setting, also across groups."""
    assert len({names(setting) for setting in settings()}) == len(settings())


def test_names_that_scripts_depend_on() -> None:
    """Names follow one rule, and those that were released stay."""
    for key, flag, variable in (
        ("bundle", "--bundle", "EMBEDPOOL_BUNDLE"),
        ("limits.max_text_bytes", "--max-text-bytes", "EMBEDPOOL_MAX_TEXT_BYTES"),
        ("stop_on_stdin_close", "--stop-on-stdin-close", "EMBEDPOOL_STOP_ON_STDIN_CLOSE"),
        ("log.level", "--log-level", "EMBEDPOOL_LOG_LEVEL"),
        ("tls.client_ca", "--tls-client-ca", "EMBEDPOOL_TLS_CLIENT_CA"),
        ("auth.admin_token_file", "--admin-token-file", "EMBEDPOOL_ADMIN_TOKEN_FILE"),
        ("tracing.endpoint", "--trace-endpoint", "EMBEDPOOL_TRACE_ENDPOINT"),
        ("metrics.listen", "--metrics-listen", "EMBEDPOOL_METRICS_LISTEN"),
    ):
        assert (BY_KEY[key].flag, BY_KEY[key].variable) == (flag, variable)


def test_flag_before_variable_before_file_before_default(tmp_path: Path) -> None:
    """The nearer source wins, and each value knows its own."""
    path = tmp_path / "pool.toml"
    path.write_text("max_streams = 1\nrun_seconds = 2\nhang_seconds = 3\n")
    variables = {"EMBEDPOOL_MAX_STREAMS": "4", "EMBEDPOOL_RUN_SECONDS": "5", "PATH": "/bin"}
    resolved = resolve({"max_streams": "6"}, variables, path)
    assert resolved.values["max_streams"] == 6
    assert resolved.values["run_seconds"] == 5.0
    assert resolved.values["hang_seconds"] == 3.0
    assert resolved.values["drain_seconds"] == 30.0
    assert resolved.sources == {
        "max_streams": "--max-streams",
        "run_seconds": "EMBEDPOOL_RUN_SECONDS",
        "hang_seconds": f"key hang_seconds of {path}",
    }


def test_variable_names_the_file(tmp_path: Path) -> None:
    """A container needs no flag: EMBEDPOOL_CONFIG names the file."""
    path = tmp_path / "pool.toml"
    path.write_text("[log]\nformat = 'json'\n")
    assert resolve({}, {"EMBEDPOOL_CONFIG": str(path)}, None).values["log.format"] is LogFormat.JSON


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_streems = 1", "key max_streems of .*did you mean max_streams"),
        ("[limits]\nmax_text_byte = 1", "limits.max_text_byte .*did you mean limits.max_text_bytes"),
        ("[limit]\nmax_text_bytes = 1", "key limit of .*did you mean"),
        ("pins = [0]", "key pins of .* is no setting"),
        ("max_streams = '64'", "key max_streams of .* is '64', it must be an integer"),
        ("max_streams = true", "is True, it must be an integer"),
        ("max_streams = 1.5", "is 1.5, it must be an integer"),
        ("bulk_share = nan", "is nan, it must be a number"),
        ("insecure = 1", "is 1, it must be true or false"),
        ("bundle = 3", "is 3, it must be a path"),
        ("limits = 3", "key limits of .* is no setting"),
        ("processes = 'many'", "is 'many', it must be auto or an integer"),
        ("[log]\nlevel = 'loud'", "is 'loud', it must be one of debug, info, warning, error"),
        ("max_streams = ", "is no TOML"),
        ("max_streams = 1\nmax_streams = 2", "is no TOML"),
    ],
)
def test_wrong_file(tmp_path: Path, text: str, words: str) -> None:
    """What is wrong in a file is named with its key, and what it should be."""
    with pytest.raises(ConfigError, match=words):
        resolve_file(tmp_path, text)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "EMBEDPOOL_MAX_STREEMS",
            "1",
            "EMBEDPOOL_MAX_STREEMS is no setting.*did you mean EMBEDPOOL_MAX_STREAMS",
        ),
        ("EMBEDPOOL_MAX_STREAMS", "many", "EMBEDPOOL_MAX_STREAMS is 'many', it must be an integer"),
        ("EMBEDPOOL_INSECURE", "maybe", "it must be true or false"),
        ("EMBEDPOOL_RUN_SECONDS", "inf", "it must be a number"),
        ("EMBEDPOOL_BUNDLE", "b\udcff", "it must be a path"),
        ("EMBEDPOOL_CONFIG", "/no/such.toml", "cannot read the --config file /no/such.toml"),
    ],
)
def test_wrong_variable(name: str, value: str, words: str) -> None:
    """What is wrong in a variable is named with the variable."""
    with pytest.raises(ConfigError, match=words):
        resolve({}, {name: value}, None)


def test_variables_of_kubernetes_are_none_of_ours() -> None:
    """A Kubernetes service called embedpool sets variables of its own in every container."""
    theirs = {
        "EMBEDPOOL_SERVICE_HOST": "10.0.0.1",
        "EMBEDPOOL_SERVICE_PORT_GRPC": "50051",
        "EMBEDPOOL_PORT": "tcp://10.0.0.1:50051",
        "EMBEDPOOL_PORT_50051_TCP_ADDR": "10.0.0.1",
        "EMBEDPOOL_WORKER_SERVICE_HOST": "10.0.0.1",
    }
    assert resolve({}, theirs, None).sources == {}


def test_setting_out_of_range_is_named_with_its_source(tmp_path: Path) -> None:
    """Whoever reads the error knows which file to open, though the rule is about two settings."""
    resolved = resolve_file(tmp_path, "bundle = 'b'\n[limits]\nmax_text_bytes = 9999999\n")
    with pytest.raises(ConfigError, match=r"must fit .*limits.max_text_bytes is from key .*pool.toml"):
        made(resolved)


def test_missing_bundle_says_all_ways_to_give_it() -> None:
    """The one setting without a default says where it may come from."""
    with pytest.raises(ConfigError, match="give --bundle, EMBEDPOOL_BUNDLE or the key bundle"):
        made(resolve({}, {}, None))


def test_empty_text_unsets_an_optional_value(tmp_path: Path) -> None:
    """A flag can take back what a file says."""
    resolved = resolve_file(tmp_path, "[auth]\ntoken_file = 't'\n", EMBEDPOOL_TOKEN_FILE="")
    assert resolved.values["auth.token_file"] is None


def texts_for(setting: Setting) -> st.SearchStrategy[str]:
    """Texts that a flag of the setting takes."""
    if setting.choices:
        return st.sampled_from(setting.choices)
    if setting.kind is bool:
        return st.sampled_from(["true", "false"])
    if setting.kind is int:
        return st.integers(1, 2**40).map(str) | (st.just(AUTO) if setting.auto else st.nothing())
    if setting.kind is float:
        return st.floats(0.001, 1e6, allow_subnormal=False).map(str)
    # No zero bytes: no path, flag or variable can hold one.
    return st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@given(st.fixed_dictionaries({}, optional={one.key: texts_for(one) for one in settings()}))
def test_printed_configuration_is_read_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, flags: dict[str, str | None]
) -> None:
    """`--print-config` of any settings is a file that sets the same."""
    first = resolve(flags, {}, None)
    path = tmp_path_factory.getbasetemp() / "printed.toml"
    path.write_text(to_toml(first), encoding="utf-8", newline="")
    assert resolve({}, {}, path).values == first.values


def test_printed_configuration_says_where_values_come_from() -> None:
    """Each line ends with its source, and a name with a line break in it breaks no line."""
    printed = to_toml(resolve({"bundle": "a\nb"}, {"EMBEDPOOL_MAX_STREAMS": "3"}, None))
    assert "max_streams = 3  # EMBEDPOOL_MAX_STREAMS\n" in printed
    assert 'bundle = "a\\nb"  # --bundle\n' in printed
    assert "drain_seconds = 30.0  # default\n" in printed
    assert set(tomllib.loads(printed)) == {key.partition(".")[0] for key in BY_KEY}
