# Needs GNU make, Python 3.11 or newer, and a package index that pip reaches; nothing else.
PYTHON ?= python3
# Arguments of the experiment: make train ARGS="--model resnet56 --seed 1"
ARGS ?=
# Processes of pytest
WORKERS ?= 2

RUN := .venv/bin/python
# One stamp for each set of extras that is installed; `cpu` is the set without any.
DEVICE := $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)

# What computes convolutions on a CPU.
EXTENSION := $(if $(filter cpu,$(DEVICE)),.venv/built)

.PHONY: help train cifar10 prepare test tests test-slow lint format clean FORCE
.NOTPARALLEL:

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

train: .venv/installed/$(DEVICE) $(EXTENSION) ## install, then train a ResNet on what data there is
	$(RUN) experiments/resnet_cifar.py $(ARGS)

cifar10: .venv/installed/$(DEVICE) .venv/installed/prepare $(EXTENSION) ## prepare the real CIFAR-10 and train on it
	$(RUN) -m train.data.prepare cifar10
	$(RUN) experiments/resnet_cifar.py --data cifar10 $(ARGS)

prepare: $(if $(DATA),.venv/installed/cpu .venv/installed/prepare) ## prepare another data set: make prepare DATA=fashion_mnist
	@test -n "$(DATA)" || { echo "Which set? make prepare DATA=fashion_mnist" >&2; exit 2; }
	$(RUN) -m train.data.prepare $(DATA)

test: lint .venv/built ## lint, format check, types, and all tests but the slow ones
	$(RUN) -m pytest -n $(WORKERS) -m "not slow"

tests: test

test-slow: .venv/installed/test .venv/built ## the tests that train for minutes, and all faults
	JAX_DISABLE_MOST_OPTIMIZATIONS=false $(RUN) -m pytest -m "slow or fault"

lint: .venv/installed/test ## lint, format check, types
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy

format: .venv/installed/test ## rewrite the sources as the format check wants them
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

clean: ## remove the environment and the caches; runs/ stays
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info

.venv/installed/%: .venv/pyvenv.cfg pyproject.toml constraints.txt
	$(RUN) -m pip install --disable-pip-version-check -c constraints.txt \
	    -e '.$(patsubst %,[%],$(filter-out cpu,$*))'
	@mkdir -p $(@D) && touch $@

# Convolutions on a CPU: a wheel and some seconds of a C++ compiler. If it is missing, everything works,
# only slower.
.venv/built: .venv/installed/cpu $(wildcard models/backends/onednn/*.cc models/backends/onednn/*.h models/backends/onednn/*.py)
	@$(RUN) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[onednn]' \
	    || echo "No oneDNN from the package index: convolutions will be slower"
	@$(RUN) -m models.backends.onednn
	@touch $@

# Asked each time, and made anew (with it go the stamps) where .venv cannot be used: its Python is
# gone or of another version, it has no pip, or it was copied here with another checkout's paths.
version = import sys; print("%d.%d" % sys.version_info[:2])
.venv/pyvenv.cfg: FORCE
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
	    "Svertka needs Python 3.11 or newer; $(PYTHON): $$($(PYTHON) --version 2>&1)." \
	    "Name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test "$$($(RUN) -c 'import pip; $(version)' 2>/dev/null)" = "$$($(PYTHON) -c '$(version)')" \
	    && grep -qF ' $(CURDIR)/.venv' $@ || { $(environment); }

define environment
echo "Making .venv with $(PYTHON)"; rm -rf .venv; \
if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv .venv; else \
    $(PYTHON) -m venv --without-pip .venv && { $(system-pip) || $(debian-pip); } || { \
    rm -rf .venv; echo "$(PYTHON) has no ensurepip, and no pip was found to do without;" \
    "on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; fi
endef

# Debian packages Python without ensurepip. Without python3-venv there may be a pip of the system;
# else the wheel of pip is in python3-pip-whl, unpacked beside, with package lists of its own, so
# that it needs no root and nothing of the system changes.
system-pip = $(PYTHON) -m pip --python $(RUN) install -q pip 2>/dev/null
define debian-pip
(d=$$(mktemp -d) && trap "rm -rf $$d" EXIT && mkdir -p $$d/lists/partial && \
    set -- -qq -o APT::Sandbox::User= -o Dir::State::Lists=$$d/lists -o Dir::Cache=$$d && \
    apt-get "$$@" update && cd $$d && apt-get "$$@" download python3-pip-whl && \
    dpkg-deb -x python3-pip-whl_*.deb . && \
    for wheel in $$d/usr/share/python-wheels/pip-*.whl; do \
        $(CURDIR)/$(RUN) $$wheel/pip install -q --no-index $$wheel; done)
endef
