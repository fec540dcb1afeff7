"""How callers of foreign wires want their texts embedded: words that several of these wires share."""

from dataclasses import dataclass
from enum import StrEnum

from worker.models import Model
from worker.requests.intake import Options, check_dimensions, find_prompt


class InputType(StrEnum):
    """What the texts are; it puts the model's prompt for them in front, and picks their class."""

    QUERY = "query"
    DOCUMENT = "document"
    PASSAGE = "passage"  # another word for document


class Truncate(StrEnum):
    """What becomes of a text that is longer than the model reads."""

    END = "END"  # its end is cut off
    START = "START"  # its beginning is
    NONE = "NONE"  # it is refused


@dataclass(frozen=True)
class Wanted:
    """How the texts of a request are to be embedded.

    Attributes:
        input_type: What they are; None where the caller did not say.
        truncate: What becomes of those that are too long.
        dimensions: Leading dimensions to keep; 0 for all.
        prompt_name: Name of the model's prompt to put in front, "" for none; None where nothing was said.
    """

    input_type: InputType | None = None
    truncate: Truncate = Truncate.END
    dimensions: int = 0
    prompt_name: str | None = None

    def is_query(self, texts: int) -> bool:
        """Tells whether so many texts go before bulk work: what the caller says, else a single text does."""
        return texts == 1 if self.input_type is None else self.input_type is InputType.QUERY

    def options(self, model: Model) -> Options:
        """Returns how a model is to embed them; without the caller's word no prompt is put in front.

        Raises:
            RequestError: The model has no such prompt, or fewer dimensions.
        """
        manifest, default = model.manifest, ""
        if self.input_type is not None:
            is_query = self.input_type is InputType.QUERY
            default = manifest.query_prompt if is_query else manifest.document_prompt
        return Options(
            dimensions=check_dimensions(manifest, self.dimensions),
            prompt=find_prompt(manifest, self.prompt_name, default),
            reject_long=self.truncate is Truncate.NONE,
            keep_end=self.truncate is Truncate.START,
        )
