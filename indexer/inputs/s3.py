"""Opens S3 and what speaks like it, by the options of a URI and the variables that AWS tools know."""

import os
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote

import pyarrow.fs as pafs

# Of one request, with pauses that double from half a second: some 8 s, after which a store is away.
_ATTEMPTS = 5
_SECONDS_CONNECT, _SECONDS_REQUEST = 5.0, 30.0  # arbitrary; a request that takes longer is tried again
_SYSTEMS = 64  # kept open; arbitrary, buckets seen at once are few
_OPTIONS = {
    "region", "endpoint_override", "scheme", "session_token", "tls_ca_file_path",
}  # fmt: skip
_FLAGS = {"anonymous", "force_virtual_addressing"}


@lru_cache(_SYSTEMS)
def open_s3(bucket: str, options: str, user: str, secrets: str) -> Any:
    """Returns Arrow's file system for a bucket.

    What the URI leaves open comes from AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION, AWS_DEFAULT_REGION
    and Arrow's own search for credentials.

    Args:
        bucket: Its region is asked for where neither URI nor variables tell it and the store is Amazon's.
        options: Of the URI, see `_OPTIONS` and `_FLAGS`; flags are true or false.
        user: `KEY:SECRET`, or "".
        secrets: Further options: session_token.

    Raises:
        ValueError: There is no such option.
        OSError: The region cannot be found.
    """
    given = dict(parse_qsl("&".join(filter(None, [options, secrets]))))
    if unknown := sorted(set(given) - _OPTIONS - _FLAGS):
        raise ValueError(f"an S3 URI has no option {', '.join(unknown)}")
    key, _, secret = user.partition(":")
    endpoint = (
        given.pop("endpoint_override", None)
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
    )
    region = (
        given.pop("region", None)
        or os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or ("us-east-1" if endpoint else pafs.resolve_s3_region(bucket))
    )
    settings: dict[str, Any] = {
        name: value == "true" if name in _FLAGS else value for name, value in given.items()
    }
    return pafs.S3FileSystem(
        **settings,
        access_key=unquote(key) or None,
        secret_key=unquote(secret) or None,
        endpoint_override=endpoint,
        region=region,
        connect_timeout=_SECONDS_CONNECT,
        request_timeout=_SECONDS_REQUEST,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )
