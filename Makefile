# Needs Python 3.11 or newer with pip and venv. Everything is installed into .venv.

PYTHON ?= python3
BIN := .venv/bin
QUICK := data/quickstart
QUICK_ADAPTER := models/quickstart

.PHONY: quickstart doctor test test-all lint notebook clean

quickstart: .venv/installed ## sample server in, tested adapter out, on the CPU
	$(BIN)/python prepare_training_data.py --source data/sample --persona rohan --output-dir $(QUICK)
	$(BIN)/python train_tinyllama.py --config configs/cpu-starter.yaml --data-dir $(QUICK) \
		--output-dir $(QUICK_ADAPTER) --max-steps 48 --resume
	$(BIN)/python test_model_loading.py --adapter $(QUICK_ADAPTER) --test-file $(QUICK)/test.jsonl --quick

doctor: .venv/bin/python ## can this machine train? what to mend if not
	@$(BIN)/python -m utils.doctor

test: .venv/installed-tests ## the quick, hermetic tests
	$(BIN)/python -m pytest -n 2

test-all: .venv/installed-tests ## also what takes long or needs the network
	$(BIN)/python -m pytest -m "slow or not slow"

lint: .venv/installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

notebook: .venv/installed-tests ## makes the Colab notebook from train_colab.py
	$(BIN)/jupytext --to notebook --update --output notebooks/train_colab.ipynb \
		--update-metadata '{"accelerator": "GPU", "colab": {"gpuType": "T4"}, "kernelspec": {"name": "python3", "display_name": "Python 3"}}' \
		train_colab.py

clean: ## removes what the project made; data/raw stays
	rm -rf .venv data/processed data/colab $(QUICK) models/quickstart models/finetuned models/tinyllama-finetuned

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python %d.%d is too old: install 3.11 or newer, then name it: make PYTHON=python3.11 ..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/installed-tests: tests/requirements.txt .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@
