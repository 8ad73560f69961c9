"""`hebench adapt`: the whole recipe, from a base model to a chat model in another language."""
