"""What a model of random weights is made of, before it is written in one form or another."""

from collections.abc import Callable
from dataclasses import dataclass, field

from loadgen.launch.weights.tensors import Tensor, tensors_of
from loadgen.launch.weights.tokenizer import Vocabulary, vocabulary_of
from loadgen.launch.weights.values import Bits, values_of
from loadgen.models.shape import Dtype, Shape


@dataclass(kw_only=True)
class Recipe:
    """A model, all but its weights, which are made one after the other where they are written."""

    name: str
    shape: Shape
    dtype: Dtype
    template: str
    """Text of the chat template."""
    progress: Callable[[float], None]
    """Gets the share that is made."""
    vocabulary: Vocabulary = field(init=False)
    tensors: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.vocabulary = vocabulary_of(self.shape.vocab_size, self.template)
        self.tensors = tensors_of(self.shape)
        self._quiet = self.vocabulary.quiet
        self._made = 0

    def values(self, tensor: Tensor, dtype: Dtype) -> Bits:
        """Make the weights of one of the tensors."""
        self.progress(self._made / self.shape.parameters)
        self._made += tensor.elements
        return values_of(tensor, dtype, self._quiet)
