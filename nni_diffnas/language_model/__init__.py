"""Talking to a language model: client, ledger, transcript and replay. The one place that knows network and keys."""

from typing import TYPE_CHECKING

from nni_diffnas.process.lazy import lazy_names

if TYPE_CHECKING:
    from .exchange import Answer as Answer
    from .exchange import LanguageModel as LanguageModel
    from .exchange import Message as Message
    from .exchange import Question as Question
    from .ledger import Ledger as Ledger
    from .options import LanguageModelOptions as LanguageModelOptions
    from .options import open_language_model as open_language_model

__all__ = [
    "Answer",
    "LanguageModel",
    "LanguageModelOptions",
    "Ledger",
    "Message",
    "Question",
    "open_language_model",
]
__getattr__ = lazy_names(
    __name__,
    {
        "Answer": ".exchange",
        "LanguageModel": ".exchange",
        "Message": ".exchange",
        "Question": ".exchange",
        "Ledger": ".ledger",
        "LanguageModelOptions": ".options",
        "open_language_model": ".options",
    },
)
