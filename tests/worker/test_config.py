"""Settings are checked once, with both numbers in the message."""

from pathlib import Path

import pytest

from worker.errors import ConfigError
from worker.settings.config import Limits, ServeConfig
from worker.settings.groups import Tls, Tracing


def test_defaults_agree() -> None:
    """The limits that ship fit into each other."""
    limits = Limits()
    assert limits.max_message_bytes > limits.max_batch_bytes + limits.max_text_bytes


def test_limit_that_cannot_fit_is_refused() -> None:
    """A batch that may be larger than its stream would wait for ever."""
    with pytest.raises(ConfigError, match=r"max_batch_bytes is 100 and max_stream_bytes_in_flight is 99"):
        Limits(max_text_bytes=1, max_batch_bytes=100, max_stream_bytes_in_flight=99)


def test_limit_below_one_is_refused() -> None:
    """A limit of zero would refuse everything."""
    with pytest.raises(ConfigError, match="max_batch_items is 0"):
        Limits(max_batch_items=0)


def test_each_process_needs_its_pin() -> None:
    """Processes and pins are counted against each other."""
    with pytest.raises(ConfigError, match="2 with 1 pins"):
        ServeConfig(Path("b"), "127.0.0.1:0", processes=2, pins=(None,))


def test_negative_drain_is_refused() -> None:
    """A drain cannot end before it begins."""
    with pytest.raises(ConfigError, match="drain_seconds"):
        ServeConfig(Path("b"), "127.0.0.1:0", processes=1, pins=(None,), drain_seconds=-1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cert": Path("c")}, "--tls-cert is given without --tls-key"),
        ({"key": Path("k")}, "--tls-key is given without --tls-cert"),
        ({"client_ca": Path("a")}, "--tls-client-ca is given without"),
    ],
)
def test_half_of_tls_is_refused(wrong: dict[str, Path], words: str) -> None:
    """A server whose owner wanted TLS never serves without."""
    with pytest.raises(ConfigError, match=words):
        Tls(**wrong)


@pytest.mark.parametrize("endpoint", ["collector:4317", "http://", "ftp://collector:4317"])
def test_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    """An address without a scheme says neither TLS nor none."""
    with pytest.raises(ConfigError, match="http:// or https://"):
        Tracing(endpoint)


def test_endpoint_with_a_password_is_refused_and_not_shown() -> None:
    """What is printed with the configuration holds no secret, nor does the refusal."""
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_HEADERS") as refused:
        Tracing("https://me:geheim@collector:4317")
    assert "geheim" not in str(refused.value)
