"""Training in two steps: first where (the trunk's regions), then what (fusion and heads on the trunk's tokens)."""
