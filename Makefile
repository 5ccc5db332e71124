# Everything that this book does, one target each. `make help` lists them.
# Needs make and Python 3.11 to 3.13; the environments are made here, beside this file.

PYTHON ?= python3
JOBS   ?= 2
PORT   ?= 8000
SIZE   ?= full
# One chapter's stem, or every chapter.
CHAPTER ?= *

# Waiting threads that spin slow a shared machine down five to seven times.
export OMP_WAIT_POLICY = passive
export GOMP_SPINCOUNT = 0
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export NO_COLOR = 1
export PIP_ROOT_USER_ACTION = ignore

SHELL := /bin/sh
VENV := .venv
BOOK_VENV := .venv-book
PARITY_VENV := .venv-parity
LOWEST_VENV := .venv-lowest
AUDIT_VENV := .venv-audit
PY := $(VENV)/bin/python
HTML := _build/html
STEP := $(PY) tools/step.py
# What one step writes for the summary at the end of `make test`.
TIMES := _build/times

NOTEBOOKS   := $(sort $(wildcard book/*.ipynb))
EXPERIMENTS := $(sort $(wildcard experiments/$(CHAPTER)/*.py))
BENCHMARKS  := $(sort $(wildcard benchmarks/bench_$(CHAPTER).py))

# What the pages are made of.
BOOK_SOURCES := _config.yml _toc.yml pyproject.toml CHANGELOG.md CITATION.cff tools/address.py \
	tools/first_cell.py $(wildcard code/archbook/*.py code/archbook/*/*.py) \
	$(wildcard assignments/*/*.ipynb assignments/*/mistakes.toml) \
	$(shell find book results -type f -not -path '*/.*' -not -path '*/__pycache__/*' 2>/dev/null)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## this list
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- environments: made once, changed only when their list changes ----

$(BOOK_VENV)/.installed: requirements-book.txt constraints.txt
	@$(PYTHON) tools/install.py $(BOOK_VENV) -r requirements-book.txt
	@touch $@

$(VENV)/.installed: requirements.txt requirements-book.txt constraints.txt pyproject.toml setup.py
	@$(PYTHON) tools/install.py $(VENV) -r requirements.txt
	@$(PYTHON) tools/install.py $(VENV) --no-deps -e .
	@touch $@

$(VENV)/.%-installed: $(VENV)/.installed # one of the groups lab, assignments, dev, release of pyproject.toml
	@$(PYTHON) tools/install.py $(VENV) -c constraints.txt --group $*
	@touch $@

$(PARITY_VENV)/.installed: pyproject.toml
	@$(PYTHON) tools/install.py $(PARITY_VENV) --group parity
	@$(PYTHON) tools/install.py $(PARITY_VENV) --no-deps -e . --group peers
	@touch $@

$(LOWEST_VENV)/.installed: pyproject.toml constraints.txt tools/lowest.py
	@$(PYTHON) tools/lowest.py > $(LOWEST_VENV).txt
	@$(PYTHON) tools/install.py $(LOWEST_VENV) -c $(LOWEST_VENV).txt -e ".[notebook,check]" --group lowest
	@rm $(LOWEST_VENV).txt
	@touch $@

$(AUDIT_VENV)/.installed: pyproject.toml
	@$(PYTHON) tools/install.py $(AUDIT_VENV) --group audit
	@touch $@

.PHONY: setup
setup: $(VENV)/.installed ## install everything that the other targets need into .venv

.PHONY: dev
dev: $(VENV)/.dev-installed ## hooks that lint and type check each commit, and readable diffs of notebooks
	@$(VENV)/bin/pre-commit install
	@$(VENV)/bin/nbdime config-git --enable

# ---- the book ----

# Both folders go first, and what was printed of them: Sphinx repeats no old warning, so a second -W build would pass wrongly.
$(HTML)/.built: $(BOOK_VENV)/.installed $(BOOK_SOURCES)
	@echo "Building the pages from the committed notebooks ..."
	@rm -rf $(HTML) _build/.doctrees $(PDF)
	@PYTHONPATH=. $(BOOK_VENV)/bin/jupyter-book build . -W --keep-going -n -q > /dev/null
	@touch $@

.PHONY: book
book: $(HTML)/.built ## build the pages (own small environment, no torch); says where they are
	@echo "The book is at $(CURDIR)/$(HTML)/index.html"
	@echo "Open that file, or run 'make serve': served pages also show excerpts in the search."

# Chromium prints; without one there is a book, but no PDF of it.
PDF := _build/pdf/six-architectures-derived.pdf
CHROMIUM ?= $(shell command -v chromium)
PRINTED := $(if $(CHROMIUM),$(PDF))

$(PDF): $(VENV)/.installed $(HTML)/.built $(wildcard tools/printed/*)
	@echo "Printing the pages ..."
	@CHROMIUM="$(CHROMIUM)" $(PY) -m tools.printed

.PHONY: pdf
pdf: $(PDF) ## the whole book as one PDF, to print or to read on a tablet (needs Chromium)
	@echo "The book is at $(CURDIR)/$(PDF)"

.PHONY: serve
serve: $(HTML)/.built ## show the book at http://localhost:8000 (PORT=...)
	@echo "The book is at http://localhost:$(PORT)/ (Ctrl-C ends)"
	@$(BOOK_VENV)/bin/python -m http.server $(PORT) --bind 127.0.0.1 --directory $(HTML)

.PHONY: lab
lab: $(VENV)/.lab-installed $(HTML)/.built ## open copies of the notebooks in JupyterLab, where the pages' button finds them
	@$(PY) tools/lab.py

.PHONY: notebooks
notebooks: $(VENV)/.installed ## run every notebook again and store its output (ONLY=lmu for one)
	@$(PY) -m tools.notebooks $(if $(ONLY),--only $(ONLY))

.PHONY: picture
picture: $(VENV)/.installed $(HTML)/.built ## take the README's picture of a page anew (needs Chromium)
	@$(PY) -m tools.picture

# ---- tests ----

# Several processes, each with whole files: what a file has made once serves all its tests.
SIDE_BY_SIDE := -n $(JOBS) --dist loadfile

# The long steps first, so that what ends last is short.
.PHONY: test
test: $(VENV)/.assignments-installed $(BOOK_VENV)/.installed ## everything that must hold: lint, types, tests, notebooks, tiny experiments, assignments, pages, a release
	@echo "Running all checks, $(JOBS) at a time; every line names its check."
	@rm -rf $(TIMES)
	@OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -k -j$(JOBS) \
		lint unit pages nbval graded tiny shapes alone types ONLY="gfnn lmu"; \
		status=$$?; $(PY) tools/times.py; exit $$status
	@echo "All checks passed."

# The inner loop. What it leaves out, `make test` runs: see the markers in pyproject.toml.
.PHONY: check
check: $(VENV)/.assignments-installed ## in about three minutes: lint, types, the quick unit tests, one notebook
	@rm -rf $(TIMES)
	@OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -k -j$(JOBS) quick lint types \
		nbval NOTEBOOKS=book/gfnn.ipynb; \
		status=$$?; $(PY) tools/times.py; exit $$status

.PHONY: quick
quick: $(VENV)/.assignments-installed
	@$(STEP) quick $(PY) -m pytest -q $(SIDE_BY_SIDE) --junitxml=$(TIMES)/quick.xml \
		-m "not book and not browser and not compile and not slow"

.PHONY: lint
lint: $(VENV)/.installed ## lint and format check, notebooks included
	@$(STEP) lint $(VENV)/bin/ruff check .
	@$(STEP) format $(VENV)/bin/ruff format --check .

.PHONY: types
types: $(VENV)/.installed ## type check
	@$(STEP) types $(VENV)/bin/basedpyright

.PHONY: unit
unit: $(VENV)/.assignments-installed ## unit tests of code/archbook, tools/ and the repository
	@$(STEP) unit $(PY) -m pytest -q $(SIDE_BY_SIDE) -m "not book and not browser" \
		--junitxml=$(TIMES)/unit.xml

# Apart, since to note every line takes as long as half of the tests themselves.
.PHONY: coverage
coverage: $(VENV)/.assignments-installed ## the unit tests again: do they reach code/archbook and tools/ (every night)
	@$(STEP) covered $(PY) -m pytest -q $(SIDE_BY_SIDE) -m "not book and not browser" --cov --cov-report=
	@$(STEP) coverage $(VENV)/bin/coverage report --include="code/*" --fail-under=95
	@$(STEP) coverage-tools $(VENV)/bin/coverage report --include="tools/*" --fail-under=40

.PHONY: shapes
shapes: $(VENV)/.installed ## the laws again, with every annotated shape checked
	@$(STEP) shapes $(PY) -m pytest -q -m shapes --junitxml=$(TIMES)/shapes.xml \
		--jaxtyping-packages=archbook,beartype.beartype

.PHONY: nbval
nbval: $(VENV)/.installed ## run every notebook and compare with the stored output
	@$(STEP) nbval $(PY) -m pytest -q -p no:cacheprovider -W default --nbval --nbval-current-env \
		--nbval-cell-timeout=300 --nbval-sanitize-with tests/sanitize.cfg $(NOTEBOOKS)

.PHONY: tiny
tiny: $(VENV)/.installed ## every experiment at its smallest size, from the start
	@$(STEP) tiny $(PY) tools/each.py --fork archbook.running,torch._dynamo "--size tiny --again" $(EXPERIMENTS)

.PHONY: pages
pages: $(VENV)/.installed $(HTML)/.built $(PRINTED) ## tests of the built pages, in Chromium too, and of the PDF
	@$(STEP) pages $(PY) -m pytest -q -rs -m "book or browser" --junitxml=$(TIMES)/pages.xml

.PHONY: mutants
mutants: $(VENV)/.installed ## break the code on purpose: the tests must see every fault of tests/mistakes (CHAPTER=lmu)
	@$(PY) -m tools.mutants $(STEM) --jobs $(JOBS)

.PHONY: kills
kills: $(VENV)/.installed ## kill -9 a run of two processes at random moments: the numbers stay the same (KILLS=10)
	@KILLS=$(or $(KILLS),10) $(PY) -m pytest -q tests/test_running_parallel.py -k random_moments

.PHONY: parity
parity: $(PARITY_VENV)/.installed ## optional: compare with peer libraries, in an environment of its own (1 GB)
	@$(PARITY_VENV)/bin/python -m pytest -q -m parity tests/test_*_parity.py

# The tests of the package; the others are of pages, tools and this repository.
OF_THE_PACKAGE := $(filter-out %_parity.py $(patsubst %, tests/test_%.py, \
	address alone api assignments% book browser claims costs discovery files live mutants notebooks phone \
	plain_notebooks print printed release repository search tools weight workflows), $(wildcard tests/test_*.py))

.PHONY: lowest
lowest: $(LOWEST_VENV)/.installed ## optional: the package's tests under the lowest versions that it declares (Python 3.11)
	@$(LOWEST_VENV)/bin/python -m pytest -q $(OF_THE_PACKAGE)

.PHONY: links
links: $(BOOK_VENV)/.installed ## optional: does every address that a page names still answer
	@PYTHONPATH=. $(BOOK_VENV)/bin/jupyter-book build . --builder linkcheck --path-output _build/links -q

.PHONY: audit
audit: $(AUDIT_VENV)/.installed ## optional: known vulnerabilities of the pinned versions
	@$(AUDIT_VENV)/bin/pip-audit --no-deps --disable-pip -r constraints.txt

# ---- a release ----

.PHONY: release
release: $(VENV)/.release-installed $(HTML)/.built $(PRINTED) ## wheel, sdist, notebooks, pages and PDF in dist/; TAG=1 tags and pushes too
	@$(STEP) release $(PY) -m tools.release $(if $(TAG),--tag)

.PHONY: upload
upload: $(VENV)/.release-installed $(HTML)/.built $(PDF) # what the forge runs for a tag
	@$(PY) -m tools.release --upload

.PHONY: alone
alone: release $(if $(LOWEST),$(LOWEST_VENV)/.installed) ## every notebook in an empty folder, with the wheel (ONLY=lmu, LOWEST=1 for the oldest torch)
	@$(STEP) alone $(PY) -m tools.alone $(ONLY) $(if $(LOWEST),--python $(LOWEST_VENV)/bin/python)

# ---- measurements ----

.PHONY: experiments
experiments: $(VENV)/.installed ## full-size runs; hours; resumes where it was stopped (CHAPTER=lmu, SIZE=paper)
	@$(PY) tools/each.py "--size $(SIZE)" $(EXPERIMENTS)

# In the environment of the peers, where it exists: without them they are listed as absent.
BENCH_PY = $(if $(wildcard $(PARITY_VENV)/.installed),$(PARITY_VENV)/bin/python,$(PY))

.PHONY: bench
bench: $(VENV)/.installed ## time against the peers of `make parity`, on a quiet machine (CHAPTER=lmu, QUICK=1)
	@$(BENCH_PY) tools/each.py "$(if $(QUICK),--quick)" $(BENCHMARKS)

.PHONY: bench-check
bench-check: $(VENV)/.installed ## are the committed ratios still true on this machine (CHAPTER=lmu)
	@$(BENCH_PY) -m tools.bench_check $(STEM)

MINUTES ?= 12

.PHONY: card
card: ## on a machine with a GPU: a loan of MINUTES=12, spent in order of value (PLAN=1 says on what)
	@PYTHONPATH=code $(if $(wildcard $(VENV)/.installed),$(PY),$(PYTHON)) -m tools.card \
		--minutes $(MINUTES) $(if $(PLAN),--plan)

# ---- courses ----

# Under how many seeds `make mistakes` grades; the nightly job takes all three.
SEEDS ?= 1
# All of them, or the one that CHAPTER names.
STEM = $(if $(filter $(CHAPTER),*),,$(CHAPTER))

.PHONY: assignments
assignments: $(VENV)/.assignments-installed ## build what a course hands out (CHAPTER=lmu, SEED=your-secret)
	@$(PY) -m tools.assignments.build $(STEM) $(if $(SEED),--seed "$(SEED)") $(if $(PUBLISH),--publish)

.PHONY: grade
grade: $(VENV)/.assignments-installed ## grade a notebook or a folder (CHAPTER=lmu SUBMISSIONS=handed_in)
	@$(PY) -m tools.assignments.grade $(STEM) $(SUBMISSIONS) --jobs $(JOBS)

.PHONY: graded
graded: mistakes hostile ## grade the solution, the blank, every planted mistake and every hostile submission

.PHONY: mistakes hostile
mistakes: $(VENV)/.assignments-installed
	@$(STEP) mistakes $(PY) -m tools.assignments.check $(STEM) --only mistakes --seeds $(SEEDS) --jobs $(JOBS)
hostile: $(VENV)/.assignments-installed # apart and six at once, since most of it waits for time limits
	@$(STEP) hostile $(PY) -m tools.assignments.check $(STEM) --only hostile --jobs 6

# ---- tidying ----

.PHONY: clean
clean: ## remove what was built; keeps environments and unfinished runs
	@rm -rf _build build dist code/*.egg-info .coverage .hypothesis .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## also remove the environments
	@rm -rf $(VENV) $(BOOK_VENV) $(PARITY_VENV) $(LOWEST_VENV) $(AUDIT_VENV)
