"""Language models: providers by their wire formats, and what is wrapped around them.

A provider is a ``LanguageModelFactory`` behind an entry point in the group ``chat_core.language_models``; ``registry``
finds it by name and puts deadlines, attempts, a limit and a circuit breaker around it.
"""
