# Each target does its own set-up (scripts/setup.sh); the second run finds nothing left to do.
# ARGS go to pytest or the tool: make audit ARGS="--guests 'web*' --plan", make test ARGS="-k fstab"

SHELL := /bin/bash
PY := .venv/bin/python
ARGS ?=
FUZZ_SECONDS ?= 120
SUITE ?= trixie
QUICK := not slow and not sshd and not fleet and not guest and not browser and not node and not long

.PHONY: audit demo-audit test quick guests matrix corpus kills fuzz soak faults-table lint coverage demo truth bench bench-own backup-table fleet-lab hosts lab-clean wheels bundle deb help

help:
	@echo "make audit      audit this machine's guests; its status is 0 if all holds and 1 if not (reclaim audit has more)"
	@echo "make demo-audit audit the sample definitions of lab/samples/fleet.xml"
	@echo "make test       lint, then every test; with real guests if this machine can run them"
	@echo "make guests     every test on real guests, also the long ones that make test leaves out"
	@echo "make matrix     audit and mend every guest of the lab matrix (make test only audits most of them); record the verdicts in docs/matrix.md"
	@echo "make quick      most of tests/unit: no root, no network; about a minute on two cores"
	@echo "make corpus     every domain of libvirt's own tests on a private libvirtd: audit, fix, audit (RECLAIM_CORPUS)"
	@echo "make coverage   the share of lines that the tests of units and of the test driver run"
	@echo "make demo       a guest of 2013: audit, fix, audit, proof"
	@echo "make truth      count the bytes that come back from real guests on many machine types, buses, images and filesystems; into docs/truth.md"
	@echo "make bench      measure reclaim beside the programs that people would use instead, into docs/benchmarks.md; ARGS='--quick', ARGS='definitions zeros' (python -m bench --list)"
	@echo "make bench-own  measure reclaim alone: a fleet's own work, a run in a large archive, merges of a thousand hypervisors, --prove"
	@echo "make backup-table  measure the cost of rsync's options on btrfs with snapshots; into docs/backups.md"
	@echo "make kills      SIGKILL at both sides of every point of a run, and in the power cycle of a real guest"
	@echo "make fuzz       hostile input for every parser, for FUZZ_SECONDS (120); guided by coverage too if atheris can be installed"
	@echo "make soak       hundreds of runs of --fix and undo, also on a real guest: memory, descriptors, threads and files do not grow"
	@echo "make faults-table  run the tests of faults, and write their counts into docs/faults.md"
	@echo "make lint       ruff, its formatter, mypy, and the rules of imports between packages"
	@echo "make fleet-lab  runs with --hosts on five hypervisors in network namespaces, also the tests that make test leaves out"
	@echo "make hosts      make audit, and the tests, on a fresh machine with Debian SUITE (trixie, sid); ARGS='--set full': real guests there too, '--set guests': these alone, '--set package': the Debian package alone (also SUITE=bookworm), '--set truth': make truth there, into docs/"
	@echo "make wheels     a folder (dist/, or ARGS) of wheels, from which reclaim is installed without a package index"
	@echo "make bundle     one file (in dist/, or ARGS) from which Ansible installs reclaim on hypervisors; for RECLAIM_PYTHON (/usr/bin/python3)"
	@echo "make deb        the Debian package for the Debian of this machine, into dist/ (or ARGS)"
	@echo "make lab-clean  remove the throwaway guests and their files"

# make would end with "*** Error 1" after a finding. With -q, a recipe of a sub-make (+) that ends with 1 is no error of
# make's: it prints nothing, and its status is 1. Under -n it is shown like any other.
ifneq ($(filter $(or $(MAKECMDGOALS),audit),audit demo-audit),)
ifeq ($(findstring n,$(firstword -$(MAKEFLAGS))),)
MAKEFLAGS += -q
SILENTLY := +@
endif
endif

audit:
	$(SILENTLY)RECLAIM_MAKE=1 scripts/audit.sh $(ARGS)

demo-audit:
	$(SILENTLY)RECLAIM_MAKE=1 scripts/audit.sh --uri "test://$(CURDIR)/lab/samples/fleet.xml" $(ARGS)

test: lint
ifeq ($(ARGS),)
	@scripts/test.sh
else
	@$(PY) -m pytest tests/ -rs --no-fold-skipped $(ARGS)
endif

quick:
	@scripts/setup.sh quick
	@$(PY) -m pytest tests/unit -q -m "$(QUICK)" $$($(PY) -c "import xdist" 2>/dev/null && echo "-n auto") $(ARGS)

guests:
	@scripts/setup.sh test
	@RECLAIM_GUESTS=all $(PY) -m pytest tests/guest -rs $(ARGS)

matrix:
	@scripts/setup.sh test
	@RECLAIM_GUESTS=all RECLAIM_MATRIX=write $(PY) -m pytest tests/guest/test_matrix.py -rs $(ARGS)

corpus:
	@scripts/setup.sh test
	@$(PY) -m pytest tests/corpus -rs --no-fold-skipped $(ARGS)

kills:
	@scripts/setup.sh test
	@RECLAIM_GUESTS=all $(PY) -m pytest tests/faults/test_killed.py tests/guest/test_interrupted.py -k killed -rs $(ARGS)

fuzz:
	@scripts/setup.sh test
	@$(PY) -m tests.fuzz --seconds $(FUZZ_SECONDS) $(ARGS)
	@$(PY) -m tests.fuzz.reach --seconds $(FUZZ_SECONDS) $(ARGS)

soak:
	@scripts/setup.sh test
	@RECLAIM_GUESTS=all $(PY) -m pytest tests/faults/test_soak.py tests/guest/test_soak.py -rs $(ARGS)

faults-table:
	@scripts/setup.sh test
	@$(PY) -m tests.faults.page $(ARGS)

coverage:
	@scripts/setup.sh test
	@$(PY) -m coverage run --source reclaim,checks,fixers -m pytest tests/unit tests/driver -q $(ARGS)
	@$(PY) -m coverage report --skip-covered --sort cover

lint:
	@scripts/setup.sh test
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports --no-logo 2>/dev/null || .venv/bin/lint-imports

demo:
	@scripts/setup.sh test
	@$(PY) -m lab.demo $(ARGS)

truth:
	@scripts/setup.sh test
	@$(PY) -m lab.truth --write docs/truth.md $(ARGS)

bench:
	@scripts/setup.sh bench
	@$(PY) -m bench $(ARGS)

bench-own:
	@scripts/setup.sh test
	@$(PY) -m bench.fleet
	@$(PY) -m bench.archive
	@$(PY) -m bench.scale --weeks 2
	@$(PY) -m bench.prove

backup-table:
	@scripts/setup.sh test
	@$(PY) -m bench.backups --suites --write docs/backups.md $(ARGS)

fleet-lab:
	@scripts/setup.sh test
	@RECLAIM_GUESTS=all $(PY) -m pytest tests/fleet -rs $(ARGS)

hosts:
	@scripts/setup.sh test
	@$(PY) -m lab.fresh --suite $(SUITE) $(ARGS)

wheels:
	@scripts/wheels.sh $(ARGS)

bundle:
	@scripts/bundle.sh $(ARGS)

deb:
	@scripts/deb.sh $(ARGS)

lab-clean:
	@scripts/setup.sh test
	@$(PY) -m lab clean
