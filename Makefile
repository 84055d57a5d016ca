# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every entry point of nbswap: `make help` lists them.  V=1 shows full commands.

B	:= build
PREFIX	?= /usr/local
KDIR	?= /lib/modules/$(shell uname -r)/build

V	?= 0
ifeq ($(V),1)
  Q	:=
  say	= @:
else
  Q	:= @
  say	= @printf '  %-7s %s\n'
  MAKEFLAGS += --no-print-directory
endif

VERSION	:= 0.1.0
PKGS	:= libnl-3.0 libnl-genl-3.0 jansson glib-2.0 gnutls liburing libsystemd
# System calls are filtered where this is there
SECCOMP	:= $(shell pkg-config --exists libseccomp 2>/dev/null && echo libseccomp)
PKGS	+= $(SECCOMP)
# Images of Ceph are exported if librbd's headers are there: it is loaded when it is needed
RBD	:= $(shell $(CC) -E -include rbd/librbd.h -x c /dev/null 2>/dev/null | grep -qw rbd_write_zeroes && echo rbd)
WARN	:= -Wall -Wextra -Wshadow -Werror
CFLAGS	?= -O2 -g
NBD_CFLAGS = -std=c17 -D_GNU_SOURCE -DNBSWAP_VERSION='"$(VERSION)"' $(WARN) -I. -Icommon \
	$(if $(SECCOMP),-DSRV_SECCOMP) $(if $(RBD),-DSRV_RBD) -Ikernel/nbd/uapi $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
NBD_LIBS = $(shell pkg-config --libs $(PKGS) 2>/dev/null) -pthread

# The client, the server and what they share; tests link everything but main.c
COMMON	:= $(wildcard common/*.c)
CLIENT	:= $(wildcard client/*.c)
SERVER	:= $(wildcard server/*.c)
# The driver's parts that know nothing of the kernel are tested in userspace
PURE	:= kernel/nbd/handshake.c kernel/nbd/reserve.c
obj	= $(patsubst %.c,$(1)/%.o,$(2))
PARTS	= $(COMMON) $(filter-out %/main.c,$(CLIENT) $(SERVER)) $(PURE)
UNIT	:= $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c))
FUZZ	:= $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: all
all: $(B)/bin/nbd-client $(B)/bin/nbd-server

$(B)/bin/nbd-client: $(call obj,$(B)/obj,$(COMMON) $(CLIENT))
$(B)/bin/nbd-server: $(call obj,$(B)/obj,$(COMMON) $(SERVER))
$(B)/bin/nbd-client $(B)/bin/nbd-server:
	$(say) LD $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(NBD_LIBS)

$(B)/obj/%.o: %.c
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(NBD_CFLAGS) $(CFLAGS) -MMD -c -o $@ $<

# Unit tests run under the sanitizers, and so do the programs of the interop tests
SAN	:= -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
$(B)/san/%.o: %.c
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(NBD_CFLAGS) $(SAN) -MMD -c -o $@ $<

$(B)/san/nbd-client: $(call obj,$(B)/san,$(COMMON) $(CLIENT))
$(B)/san/nbd-server: $(call obj,$(B)/san,$(COMMON) $(SERVER))
$(B)/san/nbd-client $(B)/san/nbd-server:
	$(say) LD $@
	$(Q)$(CC) $(SAN) -o $@ $^ $(NBD_LIBS)

$(B)/tests/test_%: $(B)/san/tests/unit/test_%.o $(call obj,$(B)/san,$(PARTS))
	$(say) LD $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(SAN) -o $@ $^ $(NBD_LIBS) -lcmocka

# The server's threads among themselves
TSAN	:= -O1 -g -fsanitize=thread -fno-omit-frame-pointer
$(B)/tsan/%.o: %.c
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(NBD_CFLAGS) $(TSAN) -MMD -c -o $@ $<

$(B)/tsan/nbd-server: $(call obj,$(B)/tsan,$(COMMON) $(SERVER))
	$(say) LD $@
	$(Q)$(CC) $(TSAN) -o $@ $^ $(NBD_LIBS)

# Fuzzers: clang's libFuzzer over the same sources
FUZZFLAGS := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
$(B)/fuzzobj/%.o: %.c
	$(say) CLANG $@
	$(Q)mkdir -p $(@D)
	$(Q)clang $(NBD_CFLAGS) $(FUZZFLAGS) -MMD -c -o $@ $<

$(B)/tests/fuzz_%: $(B)/fuzzobj/tests/fuzz/fuzz_%.o $(call obj,$(B)/fuzzobj,$(PARTS))
	$(say) LD $@
	$(Q)mkdir -p $(@D)
	$(Q)clang -fsanitize=fuzzer,address,undefined -o $@ $^ $(NBD_LIBS)

.PHONY: tests
tests: all $(UNIT:%=$(B)/tests/%) $(FUZZ:%=$(B)/tests/%) $(B)/san/nbd-client $(B)/san/nbd-server \
	$(B)/tsan/nbd-server $(B)/bench/probe

# What measures the server beside others: no test, and not for a busy machine
$(B)/bench/probe: tests/bench/probe.c
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(NBD_CFLAGS) $(CFLAGS) -MMD -o $@ $< -pthread

.PHONY: bench-server
bench-server:
	$(Q)tests/deps gnuplot-nox
	$(Q)$(MAKE) all $(B)/bench/probe
	$(Q)tests/bench/server --json $(B)/bench/server.json --plot Documentation/bench-server.svg \
		--page Documentation/bench-server.md $(BENCH)

# Exports of Ceph's images, on a cluster of one node that is made for it; not in make check
.PHONY: check-ceph
check-ceph:
	$(Q)tests/deps librbd-dev ceph-mon ceph-osd ceph-mgr ceph-common
	$(Q)rm -f $(B)/bin/nbd-server $(B)/obj/server/*rbd*.o # perhaps built without
	$(Q)$(MAKE) all
	$(Q)tests/ceph/run

# The module is built in a copy of its sources, so that several kernels can be
# built side by side and the tree stays clean.
KREL	= $(shell sed -n 's/.*UTS_RELEASE "\(.*\)".*/\1/p' $(KDIR)/include/generated/utsrelease.h 2>/dev/null)
.PHONY: module
module:
	@test -n "$(KREL)" || { echo "make: no kernel build tree at $(KDIR): install linux-headers for this kernel or give KDIR=" >&2; exit 1; }
	$(say) MODULE $(B)/module/$(KREL)/nbd.ko
	$(Q)mkdir -p $(B)/module/$(KREL)/uapi $(B)/module/$(KREL)/common
	$(Q)cp -pu kernel/nbd/*.[ch] kernel/nbd/Kbuild $(B)/module/$(KREL)/
	$(Q)cp -pu kernel/nbd/uapi/*.h $(B)/module/$(KREL)/uapi/
	$(Q)cp -pu common/nbd-wire.h $(B)/module/$(KREL)/common/
	$(Q)$(MAKE) $(if $(filter 1,$(V)),V=1,-s) -C $(KDIR) M=$(CURDIR)/$(B)/module/$(KREL) $(KFLAGS) modules

.PHONY: deps
deps:
	$(Q)tests/deps

.PHONY: check
check: deps
	$(Q)$(MAKE) all tests
	$(Q)tests/run

.PHONY: demo
demo: deps
	$(Q)$(MAKE) all
	$(Q)stress/demo

.PHONY: stress
stress: deps
	$(Q)$(MAKE) all
	$(Q)stress/run $(or $(SCENARIOS),--all)

# Documentation/results.md from what stress/run left, and from what was kept of earlier
# runs; RESULTS names other files
.PHONY: results
results:
	$(say) REPORT Documentation/results.md
	$(Q)stress/report --keep Documentation/results.jsonl --output Documentation/results.md \
		--evidence kernel/net-patches/evidence Documentation/net-patches.md $(RESULTS)

# Debug and patched kernels for the scenarios; minutes each, kept outside of the tree
.PHONY: kernels
kernels: deps
	$(Q)for k in patched-6.1 patched-6.12 debug-6.1 debug-6.12; do stress/kernel $$k > /dev/null || exit 1; done

.PHONY: install
install: all
	$(say) INSTALL $(DESTDIR)$(PREFIX)
	$(Q)install -D -m 755 $(B)/bin/nbd-client $(DESTDIR)$(PREFIX)/sbin/nbd-client
	$(Q)install -D -m 755 $(B)/bin/nbd-server $(DESTDIR)$(PREFIX)/sbin/nbd-server
	$(Q)install -D -m 644 packaging/udev/60-nbswap.rules $(DESTDIR)$(PREFIX)/lib/udev/rules.d/60-nbswap.rules
	$(Q)for page in Documentation/man/*.[158]; do \
		install -D -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/} || exit 1; done
	$(Q)if [ -f $(B)/module/$(KREL)/nbd.ko ]; then \
		install -D -m 644 $(B)/module/$(KREL)/nbd.ko $(DESTDIR)/lib/modules/$(KREL)/updates/nbd.ko; fi

.PHONY: clean
clean:
	$(Q)rm -rf $(B)

.PHONY: help
help:
	@echo 'make all            nbd-client and nbd-server, in build/bin'
	@echo 'make module KDIR=D  nbd.ko for the kernel whose build tree is D, in build/module/RELEASE'
	@echo 'make demo           a diskless guest that swaps over TCP while its server is killed (root)'
	@echo 'make check          every test (root)'
	@echo 'make check-ceph     exports of Ceph images, on a cluster it starts; installs Ceph from Debian (root)'
	@echo 'make stress         VM scenarios; SCENARIOS="swap restart", or stress/run --help'
	@echo 'make bench-server   nbd-server beside others, for half an hour; BENCH="--seconds 1", or tests/bench/server --help'
	@echo 'make results        Documentation/results.md from build/stress/*.json, or from RESULTS="..."'
	@echo 'make kernels        build patched-6.1, patched-6.12, debug-6.1 and debug-6.12 for stress/run --kernel'
	@echo 'make deps           install what is missing from Debian (root)'
	@echo 'make install        DESTDIR= PREFIX=/usr/local; the module too when it is built for KDIR'
	@echo 'make clean          remove build/'
	@echo 'V=1 shows the commands.'

-include $(shell find $(B) -name '*.d' 2>/dev/null)
.SECONDARY:
