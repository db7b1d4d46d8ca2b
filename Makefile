# make demo    install into .venv, learn data/holmes.txt and data/track1.mid, write and compose
# make test    install into .venv, check the style, run the tests
# make lint    only check the style
# make test-slow    run the notebook, kill and resume training, feed damaged files: twenty minutes
# make bench   install PyTorch as well, measure the speed (MIDI=FOLDER of .mid files, GPU=0, ISA=avx2)
# make clean   delete .venv; your runs in result/ stay
# make PYTHON=python3.14 ...    with another interpreter (3.10 to 3.14)

PYTHON = python3
BIN = .venv/bin
INSTALLED = .venv/installed-$(notdir $(PYTHON))

demo: $(INSTALLED)
	$(BIN)/python train.py --corpus holmes.txt --out result/demo
	$(BIN)/python generate.py --start ホームズ --model result/demo
	$(BIN)/python train.py --midi track1.mid --out result/demo-music
	$(BIN)/python generate.py --midi result/demo.mid --wav result/demo.wav --plot result/demo.png --model result/demo-music

test: lint
	$(BIN)/python -m pytest -n 2

lint: $(INSTALLED)-tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check

test-slow: $(INSTALLED)-tests
	$(BIN)/python -m pytest -m slow
	$(BIN)/python tests/kill.py 60
	$(BIN)/python tests/mutations.py midi 2000000
	$(BIN)/python tests/mutations.py text 1000000
	$(BIN)/python tests/mutations.py checkpoint 10000

bench: $(INSTALLED)-bench
	$(BIN)/python bench/speed.py $(if $(GPU),--gpu $(GPU)) $(if $(MIDI),--midi $(MIDI)) $(if $(ISA),--isa $(ISA)) \
		--out bench/results/$(if $(GPU),gpu,cpu)$(if $(ISA),-$(ISA)).json

$(INSTALLED): requirements.txt requirements/cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed; with another one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet "setuptools<81" wheel
	$(BIN)/python -m pip install --no-build-isolation -r requirements.txt
	touch $@

$(INSTALLED)-tests: $(INSTALLED) requirements/test.txt requirements/mpi.txt
	$(BIN)/python -m pip install --no-build-isolation -r requirements/test.txt -r requirements/mpi.txt
	touch $@

$(INSTALLED)-bench: $(INSTALLED) requirements/bench.txt
	$(BIN)/python -m pip install --no-build-isolation -r requirements/bench.txt
	touch $@

clean:
	rm -rf .venv

.PHONY: demo test lint test-slow bench clean
