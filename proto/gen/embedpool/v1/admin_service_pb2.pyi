from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReloadRequest(_message.Message):
    __slots__ = ("bundle",)
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    bundle: str
    def __init__(self, bundle: _Optional[str] = ...) -> None: ...

class ReloadResponse(_message.Message):
    __slots__ = ("model_fingerprint", "previous_fingerprint", "generation", "changed")
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    model_fingerprint: str
    previous_fingerprint: str
    generation: int
    changed: bool
    def __init__(self, model_fingerprint: _Optional[str] = ..., previous_fingerprint: _Optional[str] = ..., generation: _Optional[int] = ..., changed: _Optional[bool] = ...) -> None: ...

class GetStatisticsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatisticsResponse(_message.Message):
    __slots__ = ("uptime_seconds", "model_fingerprint", "generation", "queries", "documents", "processes", "process_ends", "reloads", "open_streams", "query_bytes_in_flight", "document_bytes_in_flight")
    class ProcessEndsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    PROCESS_ENDS_FIELD_NUMBER: _ClassVar[int]
    RELOADS_FIELD_NUMBER: _ClassVar[int]
    OPEN_STREAMS_FIELD_NUMBER: _ClassVar[int]
    QUERY_BYTES_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_BYTES_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    uptime_seconds: float
    model_fingerprint: str
    generation: int
    queries: ClassStatistics
    documents: ClassStatistics
    processes: _containers.RepeatedCompositeFieldContainer[ProcessStatistics]
    process_ends: _containers.ScalarMap[str, int]
    reloads: int
    open_streams: int
    query_bytes_in_flight: int
    document_bytes_in_flight: int
    def __init__(self, uptime_seconds: _Optional[float] = ..., model_fingerprint: _Optional[str] = ..., generation: _Optional[int] = ..., queries: _Optional[_Union[ClassStatistics, _Mapping]] = ..., documents: _Optional[_Union[ClassStatistics, _Mapping]] = ..., processes: _Optional[_Iterable[_Union[ProcessStatistics, _Mapping]]] = ..., process_ends: _Optional[_Mapping[str, int]] = ..., reloads: _Optional[int] = ..., open_streams: _Optional[int] = ..., query_bytes_in_flight: _Optional[int] = ..., document_bytes_in_flight: _Optional[int] = ...) -> None: ...

class ClassStatistics(_message.Message):
    __slots__ = ("texts", "tokens", "padded_tokens", "runs", "truncated", "waiting", "queue_seconds", "run_seconds")
    class TextsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    PADDED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    QUEUE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RUN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.ScalarMap[str, int]
    tokens: int
    padded_tokens: int
    runs: int
    truncated: int
    waiting: int
    queue_seconds: Distribution
    run_seconds: Distribution
    def __init__(self, texts: _Optional[_Mapping[str, int]] = ..., tokens: _Optional[int] = ..., padded_tokens: _Optional[int] = ..., runs: _Optional[int] = ..., truncated: _Optional[int] = ..., waiting: _Optional[int] = ..., queue_seconds: _Optional[_Union[Distribution, _Mapping]] = ..., run_seconds: _Optional[_Union[Distribution, _Mapping]] = ...) -> None: ...

class Distribution(_message.Message):
    __slots__ = ("count", "sum", "bounds", "counts")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SUM_FIELD_NUMBER: _ClassVar[int]
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    count: int
    sum: float
    bounds: _containers.RepeatedScalarFieldContainer[float]
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, count: _Optional[int] = ..., sum: _Optional[float] = ..., bounds: _Optional[_Iterable[float]] = ..., counts: _Optional[_Iterable[int]] = ...) -> None: ...

class ProcessStatistics(_message.Message):
    __slots__ = ("slot", "pid", "state", "resident_bytes", "proportional_bytes", "runs", "restarts")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROPORTIONAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    slot: int
    pid: int
    state: str
    resident_bytes: int
    proportional_bytes: int
    runs: int
    restarts: int
    def __init__(self, slot: _Optional[int] = ..., pid: _Optional[int] = ..., state: _Optional[str] = ..., resident_bytes: _Optional[int] = ..., proportional_bytes: _Optional[int] = ..., runs: _Optional[int] = ..., restarts: _Optional[int] = ...) -> None: ...
