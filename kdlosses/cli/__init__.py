"""What the commands of both siblings share: parsers, mistakes in one sentence, result logs and tables of them."""
