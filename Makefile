# Short names for tools/dev.py, which needs no make.
PYTHON ?= python3

.PHONY: demo test check install clean

demo test check install:
	$(PYTHON) tools/dev.py $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
