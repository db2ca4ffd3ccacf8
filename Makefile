# Short names for tools/dev.py, which needs no make.
PYTHON ?= python3

.PHONY: demo test check docs install clean

demo test check docs install:
	$(PYTHON) tools/dev.py $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
