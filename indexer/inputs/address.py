"""Names of inputs: a local path, or a URI whose secrets stay out of plans and messages. Pure.

A URI's path is taken as it is written: `lang=a%2Fb` names the object `lang=a%2Fb`. Only `file://` is decoded.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

# Options of a URI that are no secret and that reading needs later; of other stores than the web all else is
# taken for one.
_PUBLIC_OPTIONS = {
    "region", "scheme", "endpoint_override", "anonymous", "force_virtual_addressing",
    "tls_ca_file_path", "retry_limit_seconds",
    "enable_tls", "blob_storage_authority", "dfs_storage_authority", "blob_storage_scheme",
    "dfs_storage_scheme",
}  # fmt: skip
# On the web a query may name the file; its parts that look like these are secrets.
_SECRET_WORDS = re.compile(r"sig|token|key|secret|pass|auth|cred|^x-amz-|^x-goog-", re.IGNORECASE)
_WEB = {"http", "https"}

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://([^/?]*)(.*)", re.DOTALL)
# A question mark begins options only if options follow: elsewhere it is part of a glob.
_OPTIONS = re.compile(r"\?([\w.~%-]+=[^/?&]*(?:&[\w.~%-]+=[^/?&]*)*)\Z")


@dataclass(frozen=True)
class Address:
    """A URI in its parts.

    Attributes:
        scheme: In lower case, for example "s3"; "" for a local path.
        host: Host, bucket or container, with the user's name where that is no secret.
        path: From the first slash on.
        options: Those that are no secret, "name=value&…".
        user: Name and password, secret.
        secrets: Options that may be secret.
    """

    scheme: str
    host: str
    path: str
    options: str = ""
    user: str = field(default="", repr=False)
    secrets: str = field(default="", repr=False)

    @property
    def public(self) -> str:
        """The name that plans and messages know: the local path, or the URI without its secrets."""
        return self._named("", self.options) if self.scheme else self.path

    @property
    def private(self) -> str:
        """The local path, or the whole URI."""
        options = "&".join(filter(None, [self.options, self.secrets]))
        return self._named(self.user and self.user + "@", options) if self.scheme else self.path

    @property
    def store(self) -> str:
        """What secrets belong to: the store; on the web the very file."""
        path = self.path if self.scheme in _WEB else ""
        return f"{self.scheme}://{self.host}{path}?{self.options}"

    def _named(self, user: str, options: str) -> str:
        return f"{self.scheme}://{user}{self.host}{self.path}{options and '?' + options}"


def read_address(name: str) -> Address:
    """Takes a name apart; whatever has no scheme is a local path."""
    match = _URI.fullmatch(name)
    if match is None:
        return Address("", "", name)
    scheme, authority, rest = match[1].lower(), match[2], match[3]
    if scheme == "file":
        return Address("", "", unquote(rest))
    options: list[str] = []
    found = _OPTIONS.search(rest)
    if found is not None:
        rest, options = rest[: found.start()], found[1].split("&")
    secret = [option for option in options if _is_secret(scheme, unquote(option.partition("=")[0]))]
    user, _, host = authority.rpartition("@")
    if user and ":" not in user and scheme != "s3":
        user, host = "", authority  # abfs://container@account, hdfs://user@host
    public = [option for option in options if option not in secret]
    return Address(scheme, host, rest, "&".join(public), user, "&".join(secret))


def _is_secret(scheme: str, option: str) -> bool:
    if scheme in _WEB:
        return _SECRET_WORDS.search(option) is not None
    return option.lower() not in _PUBLIC_OPTIONS
