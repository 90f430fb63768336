# sagaz_ha: PGXS build. `make help` lists what there is besides.

EXTENSION = sagaz_ha
MODULE_big = sagaz_ha
SCRIPT = sagaz_ha--1.0.sql
DATA = $(SCRIPT)
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
PG_CPPFLAGS = -I$(srcdir)/src
PG_CFLAGS = -fvisibility=hidden
# The SQL script, in the order in which its parts need each other. The built file is
# committed: PGXN and the packages name it.
SQL_PARTS = schema state manage keys maintain coverage drift health status \
	replication_state replication_standby replication_senders replication_slots replication_health \
	promotion prometheus rights
SQL_FILES = $(patsubst %,src/sql/%.sql,$(SQL_PARTS))
PGFILEDESC = "sagaz_ha - partition maintenance and replication health"

# $(sort) makes one list of both: the tests do not depend on each other
REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test --temp-instance=./tmp_check --temp-config=test/regress.conf
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=. --temp-instance=./tmp_check_iso --temp-config=test/regress.conf
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

EXTRA_CLEAN = tmp_check tmp_check_iso output_iso log test/unit/build test/fuzz/build

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(wildcard $(PGXS)),)
include $(PGXS)

# Every object is rebuilt when a header changes; there are few of them.
$(OBJS): $(wildcard src/*/*.h)

all: $(SCRIPT)
$(SCRIPT): $(SQL_FILES) Makefile
	awk 'FNR == 1 && NR > 1 { print "" } { print }' $(addprefix $(srcdir)/,$(SQL_FILES)) >$@.new
	mv $@.new $@
else
# demo and test work without, and install it
all install uninstall installcheck clean:
	@echo "No PostgreSQL to build for: install postgresql-server-dev-NN, or name its pg_config with PG_CONFIG=." >&2; exit 1
endif

SUDO = $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: demo demo-up demo-status demo-down demo-install test test-matrix test-sanitize bench pgxn indent help

# What PGXN takes: the last commit, and nothing else.
DISTVERSION = $(shell sed -n 's/^  "version": "\(.*\)",$$/\1/p' META.json)
pgxn:
	git archive --format=zip --prefix=sagaz_ha-$(DISTVERSION)/ --output=$(or $(DISTDIR),.)/sagaz_ha-$(DISTVERSION).zip HEAD

demo: demo-install
	@PG_CONFIG='$(PG_CONFIG)' deploy/demo/demo.sh

demo-up: demo-install
	@PG_CONFIG='$(PG_CONFIG)' deploy/demo/stack.sh up

demo-status:
	@PG_CONFIG='$(PG_CONFIG)' deploy/demo/stack.sh status

demo-down:
	@PG_CONFIG='$(PG_CONFIG)' deploy/demo/stack.sh down

demo-install:
	PG_CONFIG='$(PG_CONFIG)' deploy/install-packages.sh demo
	$(MAKE) --silent --no-print-directory PG_CONFIG='$(PG_CONFIG)' all
	$(SUDO) $(MAKE) --silent --no-print-directory PG_CONFIG='$(PG_CONFIG)' install

test:
	@PG_CONFIG='$(PG_CONFIG)' deploy/install-packages.sh test
	@PG_CONFIG='$(PG_CONFIG)' test/run.sh $(SUITES)

# every PostgreSQL version that there is, in Debian folders of their own
test-matrix:
	@PG_CONFIG='$(PG_CONFIG)' deploy/install-packages.sh test
	@$(SUDO) env PG_CONFIG='$(PG_CONFIG)' test/matrix.sh $(VERSIONS)

# not Debian 12's PostgreSQL 15, which hangs in bindtextdomain() under AddressSanitizer
test-sanitize:
	@deploy/install-packages.sh test
	@$(SUDO) env SUITES='sanitize valgrind' SUITES_ALONE= test/matrix.sh 17

# the C source in place, by pgindent of PostgreSQL 18
indent:
	@PG_CONFIG='$(PG_CONFIG)' test/indent.sh

# half an hour on a machine that does nothing else; writes bench/RESULTS.md
bench:
	PG_CONFIG='$(PG_CONFIG)' deploy/install-packages.sh bench
	$(MAKE) --silent --no-print-directory PG_CONFIG='$(PG_CONFIG)' all
	$(SUDO) $(MAKE) --silent --no-print-directory PG_CONFIG='$(PG_CONFIG)' install
	@PG_CONFIG='$(PG_CONFIG)' bench/run.sh

help:
	@echo "make, make install  build and install for the PostgreSQL of PG_CONFIG=pg_config"
	@echo "make installcheck   regress, isolation and TAP tests of the installed extension"
	@echo "make demo           install what is needed (Debian), build, and show the whole"
	@echo "                    stack working, on loopback ports; 'make demo-up' keeps it to"
	@echo "                    play with, then there are 'make demo-status' and 'make demo-down'"
	@echo "make test           install what is needed (Debian), build, and run every suite;"
	@echo "                    SUITES='unit regress' runs only some"
	@echo "make pgxn           the release for PGXN: sagaz_ha-$(DISTVERSION).zip"
	@echo "make test-matrix    the same on PostgreSQL 15, 17, 18 and 19, each in a Debian folder"
	@echo "                    (debootstrap, as root); VERSIONS='17 18' runs only some"
	@echo "make test-sanitize  AddressSanitizer, UBSan and valgrind"
	@echo "make indent         pgindent on the source, in place"
	@echo "make bench          ours and its peers, measured: writes bench/RESULTS.md"
