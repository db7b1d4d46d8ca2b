# make demo    install into .venv, train on data/holmes.txt, write from ホームズ
# make test    install into .venv, run the tests
# make PYTHON=python3.12 ...    with another interpreter (3.10 to 3.13)

PYTHON = python3
BIN = .venv/bin
INSTALLED = .venv/installed-$(notdir $(PYTHON))

demo: $(INSTALLED)
	$(BIN)/python train.py --corpus holmes.txt --epoch 25 --out result/demo
	$(BIN)/python generate.py --start ホームズ --model result/demo

test: $(INSTALLED)-tests
	$(BIN)/python -m pytest

$(INSTALLED): requirements.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet "setuptools<81" wheel
	$(BIN)/python -m pip install --quiet --no-build-isolation -r requirements.txt
	touch $@

$(INSTALLED)-tests: $(INSTALLED) requirements-test.txt
	$(BIN)/python -m pip install --quiet --no-build-isolation -r requirements-test.txt
	touch $@

clean:
	rm -rf .venv result

.PHONY: demo test clean
