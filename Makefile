# SPDX-License-Identifier: Apache-2.0
# Building, installing and checking wharf. `make help` lists the targets.

# The units and the generator name /usr/bin/wharf, where packages put it.
PREFIX = /usr
ifneq ($(PREFIX),/usr)
$(error PREFIX is /usr and nothing else: systemd's units name /usr/bin/wharf)
endif
DESTDIR ?=
# release or debug: which build `install` takes
PROFILE ?= release

CARGO ?= cargo
BUILD = target/$(PROFILE)
BINDIR = $(PREFIX)/bin
LIBEXECDIR = $(PREFIX)/libexec/wharf
UNITDIR = $(PREFIX)/lib/systemd
MANDIR = $(PREFIX)/share/man
COMPLETIONS = \
	bash:$(PREFIX)/share/bash-completion/completions/wharf \
	zsh:$(PREFIX)/share/zsh/vendor-completions/_wharf \
	fish:$(PREFIX)/share/fish/vendor_completions.d/wharf.fish

PAGES = $(patsubst man/%.md,target/man/%,$(wildcard man/*.[1-8].md))
INSTALL_PROGRAM = install -D -m 0755
INSTALL_DATA = install -D -m 0644

# The relay's place is compiled into wharf (WHARF_LIBEXECDIR).
export WHARF_LIBEXECDIR = $(LIBEXECDIR)

.PHONY: all build man install demo test bench lint clean help
.DELETE_ON_ERROR:

all: build man ## build the programs and the man pages

build: ## build the programs
	$(CARGO) build --locked $(if $(filter release,$(PROFILE)),--release)

man: $(PAGES) ## build the man pages with pandoc

target/man/%: man/%.md
	@tests/rig/need pandoc pandoc
	@mkdir -p $(@D)
	pandoc --standalone --from markdown-smart --to man --output $@ $<

# Installs what is built and builds nothing, so that it may run as another user than the build.
install: ## install what `make all` has built below DESTDIR/PREFIX
	@test -x $(BUILD)/wharf || { echo 'install: nothing is built in $(BUILD); run make all first' >&2; exit 1; }
	install -d $(DESTDIR)/etc/wharf/containers $(DESTDIR)/etc/wharf/images
	$(INSTALL_PROGRAM) $(BUILD)/wharf $(DESTDIR)$(BINDIR)/wharf
	$(INSTALL_PROGRAM) $(BUILD)/wharf-relay $(DESTDIR)$(LIBEXECDIR)/wharf-relay
	$(INSTALL_PROGRAM) $(BUILD)/wharf-generator $(DESTDIR)$(UNITDIR)/system-generators/wharf-generator
	$(INSTALL_PROGRAM) $(BUILD)/wharf-generator $(DESTDIR)$(UNITDIR)/user-generators/wharf-generator
	@set -e; for kind in system user; do \
		find units/$$kind -type f 2>/dev/null | while read -r unit; do \
			$(INSTALL_DATA) "$$unit" "$(DESTDIR)$(UNITDIR)/$${unit#units/}"; \
		done; \
	done
	@set -e; for page in $(PAGES); do \
		if test -e $$page; then \
			$(INSTALL_DATA) $$page $(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}; \
		else \
			missing="$$missing $${page##*/}"; \
		fi; \
	done; \
	test -z "$$missing" || \
		echo "install: left out, since 'make man' has not built them:$$missing" >&2
	@set -e; for completion in $(COMPLETIONS); do \
		file=$(DESTDIR)$${completion#*:}; \
		mkdir -p "$${file%/*}"; \
		$(BUILD)/wharf completion $${completion%%:*} >"$$file" || \
			{ rm -f "$$file"; echo "install: no completion for $${completion%%:*}, leaving it out" >&2; }; \
	done

demo: ## boot a lab and run nginx in it as a systemd-supervised container
	tests/demo/run

test: ## run all tests, those in the labs included
	tests/test

bench: ## measure, and write docs/benchmarks.md
	tests/bench/run

lint: ## check format, lints, docs, dependencies, spelling, scripts, units, file lengths
	tests/lint

clean: ## remove everything built, the labs included
	tests/lab/lab down --all
	rm -rf target

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile
