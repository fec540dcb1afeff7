from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VectorType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VECTOR_TYPE_UNSPECIFIED: _ClassVar[VectorType]
    VECTOR_TYPE_FLOAT32: _ClassVar[VectorType]
    VECTOR_TYPE_FLOAT16: _ClassVar[VectorType]
    VECTOR_TYPE_INT8: _ClassVar[VectorType]

class Truncation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRUNCATION_UNSPECIFIED: _ClassVar[Truncation]
    TRUNCATION_END: _ClassVar[Truncation]
    TRUNCATION_REJECT: _ClassVar[Truncation]
VECTOR_TYPE_UNSPECIFIED: VectorType
VECTOR_TYPE_FLOAT32: VectorType
VECTOR_TYPE_FLOAT16: VectorType
VECTOR_TYPE_INT8: VectorType
TRUNCATION_UNSPECIFIED: Truncation
TRUNCATION_END: Truncation
TRUNCATION_REJECT: Truncation

class EmbeddingOptions(_message.Message):
    __slots__ = ("vector_type", "dimensions", "prompt_name", "truncation", "chunking", "exact")
    VECTOR_TYPE_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_NAME_FIELD_NUMBER: _ClassVar[int]
    TRUNCATION_FIELD_NUMBER: _ClassVar[int]
    CHUNKING_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    vector_type: VectorType
    dimensions: int
    prompt_name: str
    truncation: Truncation
    chunking: Chunking
    exact: bool
    def __init__(self, vector_type: _Optional[_Union[VectorType, str]] = ..., dimensions: _Optional[int] = ..., prompt_name: _Optional[str] = ..., truncation: _Optional[_Union[Truncation, str]] = ..., chunking: _Optional[_Union[Chunking, _Mapping]] = ..., exact: _Optional[bool] = ...) -> None: ...

class Chunking(_message.Message):
    __slots__ = ("window_tokens", "overlap_tokens", "separate")
    WINDOW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SEPARATE_FIELD_NUMBER: _ClassVar[int]
    window_tokens: int
    overlap_tokens: int
    separate: bool
    def __init__(self, window_tokens: _Optional[int] = ..., overlap_tokens: _Optional[int] = ..., separate: _Optional[bool] = ...) -> None: ...

class Vectors(_message.Message):
    __slots__ = ("data", "type", "dim", "rows", "scales")
    DATA_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    SCALES_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    type: VectorType
    dim: int
    rows: int
    scales: bytes
    def __init__(self, data: _Optional[bytes] = ..., type: _Optional[_Union[VectorType, str]] = ..., dim: _Optional[int] = ..., rows: _Optional[int] = ..., scales: _Optional[bytes] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("queue_ns", "tokenize_ns", "run_ns")
    QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZE_NS_FIELD_NUMBER: _ClassVar[int]
    RUN_NS_FIELD_NUMBER: _ClassVar[int]
    queue_ns: int
    tokenize_ns: int
    run_ns: int
    def __init__(self, queue_ns: _Optional[int] = ..., tokenize_ns: _Optional[int] = ..., run_ns: _Optional[int] = ...) -> None: ...

class EmbedQueryRequest(_message.Message):
    __slots__ = ("texts", "options")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    options: EmbeddingOptions
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., options: _Optional[_Union[EmbeddingOptions, _Mapping]] = ...) -> None: ...

class EmbedQueryResponse(_message.Message):
    __slots__ = ("vectors", "token_counts", "truncated", "model_fingerprint", "timing", "windows")
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNTS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    vectors: Vectors
    token_counts: _containers.RepeatedScalarFieldContainer[int]
    truncated: _containers.RepeatedScalarFieldContainer[bool]
    model_fingerprint: str
    timing: Timing
    windows: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, vectors: _Optional[_Union[Vectors, _Mapping]] = ..., token_counts: _Optional[_Iterable[int]] = ..., truncated: _Optional[_Iterable[bool]] = ..., model_fingerprint: _Optional[str] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., windows: _Optional[_Iterable[int]] = ...) -> None: ...

class EmbedDocumentsRequest(_message.Message):
    __slots__ = ("batch_id", "texts", "options")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    texts: _containers.RepeatedScalarFieldContainer[bytes]
    options: EmbeddingOptions
    def __init__(self, batch_id: _Optional[int] = ..., texts: _Optional[_Iterable[bytes]] = ..., options: _Optional[_Union[EmbeddingOptions, _Mapping]] = ...) -> None: ...

class EmbedDocumentsResponse(_message.Message):
    __slots__ = ("batch_id", "items", "vectors", "model_fingerprint")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    items: _containers.RepeatedCompositeFieldContainer[DocumentStatus]
    vectors: Vectors
    model_fingerprint: str
    def __init__(self, batch_id: _Optional[int] = ..., items: _Optional[_Iterable[_Union[DocumentStatus, _Mapping]]] = ..., vectors: _Optional[_Union[Vectors, _Mapping]] = ..., model_fingerprint: _Optional[str] = ...) -> None: ...

class DocumentStatus(_message.Message):
    __slots__ = ("code", "message", "token_count", "truncated", "windows", "window_starts", "window_stops", "window_token_counts")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_STARTS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_STOPS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_TOKEN_COUNTS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    token_count: int
    truncated: bool
    windows: int
    window_starts: _containers.RepeatedScalarFieldContainer[int]
    window_stops: _containers.RepeatedScalarFieldContainer[int]
    window_token_counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., token_count: _Optional[int] = ..., truncated: _Optional[bool] = ..., windows: _Optional[int] = ..., window_starts: _Optional[_Iterable[int]] = ..., window_stops: _Optional[_Iterable[int]] = ..., window_token_counts: _Optional[_Iterable[int]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("fingerprint", "name", "dim", "max_tokens", "limits", "prompts", "query_prompt", "document_prompt", "pooling", "normalized", "recipe", "versions", "processes", "generation")
    class PromptsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    QUERY_PROMPT_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_PROMPT_FIELD_NUMBER: _ClassVar[int]
    POOLING_FIELD_NUMBER: _ClassVar[int]
    NORMALIZED_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    name: str
    dim: int
    max_tokens: int
    limits: Limits
    prompts: _containers.ScalarMap[str, str]
    query_prompt: str
    document_prompt: str
    pooling: str
    normalized: bool
    recipe: str
    versions: _containers.ScalarMap[str, str]
    processes: int
    generation: int
    def __init__(self, fingerprint: _Optional[str] = ..., name: _Optional[str] = ..., dim: _Optional[int] = ..., max_tokens: _Optional[int] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., prompts: _Optional[_Mapping[str, str]] = ..., query_prompt: _Optional[str] = ..., document_prompt: _Optional[str] = ..., pooling: _Optional[str] = ..., normalized: _Optional[bool] = ..., recipe: _Optional[str] = ..., versions: _Optional[_Mapping[str, str]] = ..., processes: _Optional[int] = ..., generation: _Optional[int] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_text_bytes", "max_query_texts", "max_batch_items", "max_batch_bytes", "max_stream_bytes_in_flight", "max_query_bytes_in_flight", "max_windows")
    MAX_TEXT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_QUERY_TEXTS_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_ITEMS_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAM_BYTES_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_QUERY_BYTES_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_WINDOWS_FIELD_NUMBER: _ClassVar[int]
    max_text_bytes: int
    max_query_texts: int
    max_batch_items: int
    max_batch_bytes: int
    max_stream_bytes_in_flight: int
    max_query_bytes_in_flight: int
    max_windows: int
    def __init__(self, max_text_bytes: _Optional[int] = ..., max_query_texts: _Optional[int] = ..., max_batch_items: _Optional[int] = ..., max_batch_bytes: _Optional[int] = ..., max_stream_bytes_in_flight: _Optional[int] = ..., max_query_bytes_in_flight: _Optional[int] = ..., max_windows: _Optional[int] = ...) -> None: ...
