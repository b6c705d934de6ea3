# linnet: the only build file. `make help` lists the targets.
#
#   make                 build/release/linnet and build/release/linnet-pi
#   make MODE=asan check the tests under ASan and UBSan, in build/asan
#   make CC=clang        another compiler (use another BUILD= to keep both)
#   make MPI=1           for several machines, in build/mpi (libopenmpi-dev or libmpich-dev)
#
# ---- what a user may set -----------------------------------------------------
CC      ?= gcc
MODE    ?= release
PREFIX  ?= /usr/local
DESTDIR ?=
NATIVE  ?=
MPI     ?=
V       ?=
BUILD   ?= build/$(if $(MPI),mpi,$(MODE))
PY_VENV ?= build/venv
JOBS    ?= $(shell nproc)

# ---- modes -------------------------------------------------------------------
WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes \
        -Wmissing-prototypes -Wvla -Wundef $(if $(CI),-Werror)
FLAGS_release := -O3 -g -DNDEBUG
FLAGS_debug   := -O0 -g
FLAGS_asan    := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
FLAGS_tsan    := -O1 -g -fsanitize=thread
FLAGS_cov     := -O0 -g --coverage -DLINNET_COVERAGE
# clang only: libFuzzer's main is linked into the targets of tests/fuzz alone. Loops that instrumentation keeps
# from being vectorized are no fault.
FLAGS_fuzz    := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
                 -fno-sanitize-recover=undefined -Wno-pass-failed
ifeq ($(FLAGS_$(MODE)),)
$(error MODE=$(MODE) is not one of release debug asan tsan cov fuzz)
endif
PKGS     := libprotobuf-c jansson libarchive libpng libjpeg
CPPFLAGS += -I. -I$(BUILD)/gen -D_POSIX_C_SOURCE=200809L $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
CFLAGS   += -std=c11 -ffp-contract=on -fopenmp -fPIC -fvisibility=hidden $(FLAGS_$(MODE)) $(if $(NATIVE),-march=native)
LDFLAGS  += -fopenmp $(filter -fsanitize% --coverage,$(FLAGS_$(MODE)))
# gcc's OpenMP pragmas sit inside kernels only; -fopenmp-simd is part of -fopenmp.
# Ranks of one process, or of MPI: pkg-config's word for OpenMPI is ompi-c, for MPICH mpich.
MPI_PKG := $(shell for p in ompi-c mpich; do pkg-config --exists $$p 2>/dev/null && echo $$p && break; done)
MPI_LIBS := $(if $(MPI_PKG),$(shell pkg-config --libs $(MPI_PKG)))
ifeq ($(MPI_PKG)$(if $(MPI),,alone),)
$(error MPI=1 needs libopenmpi-dev or libmpich-dev)
endif
OTHER_RANKS := core/base/ranks_$(if $(MPI),one,mpi).c
LIBS_RUNTIME := $(if $(MPI),$(MPI_LIBS)) -lprotobuf-c -ljansson -lssl -lcrypto -lopenblas -lm
LIBS_ALL     := $(LIBS_RUNTIME) -larchive -lpng -ljpeg
Q := $(if $(V),,@)

# ---- sources: every .c of a folder and its rooms belongs to that folder's library -----------
# core is two libraries: base (all the runtime may use) and nn (what needs a graph).
objs = $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(OTHER_RANKS),$(wildcard $(1:%=%/*.c))))
STAGES    := importer linearizer trainer exporter pipeline runtime
ROOMS_base := core/base
ROOMS_nn   := core/graph core/kernel core/op core/exec
$(foreach s,$(STAGES),$(eval ROOMS_$(s) := $(s) $(patsubst %/,%,$(filter %/,$(wildcard $(s)/*/)))))
$(foreach l,base nn $(STAGES),$(eval $(l)_OBJS := $(call objs,$(ROOMS_$(l)))))
onnxproto_OBJS := $(BUILD)/gen/onnx.pb-c.o
piproto_OBJS   := $(BUILD)/gen/pi.pb-c.o
# What the tests of several folders share; a test links what it uses of it.
testkit_OBJS := $(filter-out $(BUILD)/tests/bench_%.o,$(call objs,tests))
lib = $(BUILD)/lib$(1).a
LIBS := base nn $(STAGES) onnxproto piproto testkit
LIB_ORDER_PI := $(foreach l,runtime piproto base,$(call lib,$(l)))
LIB_ORDER    := $(foreach l,pipeline importer linearizer trainer exporter runtime nn base onnxproto piproto,$(call lib,$(l)))

CLI_SHARED := $(call objs,cli) # what both programs and their test use
PI_OBJS    := $(call objs,cli/pi) $(CLI_SHARED)
CLI_OBJS   := $(call objs,cli/linnet) $(CLI_SHARED)

# Test programs lie flat in $(BUILD)/tests, their sources in tests/FOLDER. A folder's tests link, and
# depend on, what that folder may use; a test that needs more says so in MORE_<test>.
TEST_DIRS := core importer linearizer trainer exporter pipeline runtime cli
LIBS_core       := nn base
LIBS_importer   := importer linearizer nn base onnxproto
LIBS_linearizer := linearizer nn base
LIBS_trainer    := trainer nn base
LIBS_exporter   := exporter importer linearizer runtime nn base onnxproto piproto
LIBS_runtime    := runtime piproto nn base
LIBS_pipeline   := pipeline importer linearizer trainer exporter runtime nn base onnxproto piproto
LIBS_cli        := $(LIBS_pipeline)
MORE_test_conv_accuracy := importer onnxproto
MORE_test_wire          := onnxproto
MORE_test_import_forms  := exporter runtime piproto
MORE_test_zoo           := exporter linearizer runtime piproto
TESTS := $(foreach d,$(TEST_DIRS),$(patsubst tests/$(d)/%.c,$(BUILD)/tests/%,$(wildcard tests/$(d)/test_*.c)))
FUZZ := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_COMMON := $(filter-out $(BUILD)/tests/fuzz/fuzz_%.o $(BUILD)/tests/fuzz/replay.o,$(call objs,tests/fuzz))
TESTS += $(FUZZ:%=$(BUILD)/tests/test_fuzz_%)
BENCHES := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/bench_*.c))

# Shared libraries: only names marked LINNET_API and LINNET_PI_API are visible. What comes out of the
# archives is hidden, so liblinnet.so does not offer what liblinnet-pi.so does.
SOVERSION := 0
SHARED_LIBS := $(BUILD)/liblinnet.so $(BUILD)/liblinnet-pi.so
LIBDIR ?= $(PREFIX)/lib

.DELETE_ON_ERROR:
.PRECIOUS: $(BUILD)/gen/%.pb-c.c $(BUILD)/gen/%.pb-c.h $(BUILD)/%.o # keep what is made on the way
.PHONY: all tests check check-one check-unit check-long zoo coverage fuzz fuzz-targets bench bench-peers format layers ci ci-long deps deps-build demo install uninstall deb check-deb check-install clean help libs results
all: $(BUILD)/linnet $(BUILD)/linnet-pi ## build both programs

# ---- rules -------------------------------------------------------------------
PROTOC_C ?= $(shell command -v protoc-c >/dev/null 2>&1 && echo protoc-c || echo protoc)
$(BUILD)/gen/%.pb-c.c $(BUILD)/gen/%.pb-c.h: proto/%.proto
	@mkdir -p $(@D)
	$(Q)$(PROTOC_C) --proto_path=proto --c_out=$(BUILD)/gen $<
$(BUILD)/gen/%.o: $(BUILD)/gen/%.c
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -w -c -o $@ $<
GEN_H := $(patsubst proto/%.proto,$(BUILD)/gen/%.pb-c.h,$(wildcard proto/*.proto))
$(BUILD)/%.o: %.c | $(GEN_H)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(WARN) -MMD -MP -c -o $@ $<
define lib_rule
$(call lib,$(1)): $$($(1)_OBJS)
	@mkdir -p $$(@D)
	$(Q)rm -f $$@ && ar qcsD $$@ $$^
endef
# q, not r: two rooms may have files of one name
$(foreach l,$(LIBS),$(eval $(call lib_rule,$(l))))
libs: $(LIB_ORDER)

$(BUILD)/linnet: $(CLI_OBJS) $(LIB_ORDER)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(CLI_OBJS) $(LIB_ORDER) $(LIBS_ALL)
# The same program for several ranks beside the build for one, which is what its tests need: the object
# comes before the library that has the other implementation.
$(BUILD)/linnet-mpi: $(CLI_OBJS) $(BUILD)/core/base/ranks_mpi.o $(LIB_ORDER)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(CLI_OBJS) $(BUILD)/core/base/ranks_mpi.o $(LIB_ORDER) $(MPI_LIBS) $(LIBS_ALL)
$(BUILD)/core/base/ranks_mpi.o: CPPFLAGS += $(if $(MPI_PKG),$(shell pkg-config --cflags $(MPI_PKG)))
$(BUILD)/linnet-pi: $(PI_OBJS) $(LIB_ORDER_PI)
	$(Q)$(CC) $(LDFLAGS) -Wl,--as-needed -o $@ $(PI_OBJS) $(LIB_ORDER_PI) $(LIBS_RUNTIME)
$(BUILD)/liblinnet.so: $(pipeline_OBJS) $(filter-out $(call lib,pipeline),$(LIB_ORDER)) pipeline/linnet.map
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,liblinnet.so.$(SOVERSION) -Wl,--version-script=pipeline/linnet.map \
	    -Wl,--exclude-libs,ALL -Wl,-z,defs -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS_ALL)
$(BUILD)/liblinnet-pi.so: $(runtime_OBJS) $(filter-out $(call lib,runtime),$(LIB_ORDER_PI)) runtime/linnet-pi.map
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,liblinnet-pi.so.$(SOVERSION) -Wl,--version-script=runtime/linnet-pi.map \
	    -Wl,--exclude-libs,ALL -Wl,-z,defs -Wl,--as-needed -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS_RUNTIME)
# One static archive each, for programs that do not want the shared ones.
$(BUILD)/static/liblinnet.a: $(foreach l,pipeline importer linearizer trainer exporter runtime nn base onnxproto piproto,$($(l)_OBJS))
$(BUILD)/static/liblinnet-pi.a: $(foreach l,runtime piproto base,$($(l)_OBJS))
$(BUILD)/static/%.a:
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar qcsD $@ $^
define test_rule # folder, test
$(BUILD)/tests/$(2): $(BUILD)/tests/$(1)/$(2).o $(call lib,testkit) $(foreach l,$(LIBS_$(1)) $(MORE_$(2)),$(call lib,$(l)))
	$$(Q)$$(CC) $$(LDFLAGS) -o $$@ $$(filter %.o,$$^) -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group -lcmocka $$(LIBS_ALL)
endef
$(foreach d,$(TEST_DIRS),$(foreach t,$(patsubst tests/$(d)/%.c,%,$(wildcard tests/$(d)/test_*.c)),\
    $(eval $(call test_rule,$(d),$(t)))))
$(BUILD)/tests/test_cli: $(CLI_SHARED)
$(BENCHES): $(BUILD)/tests/%: $(BUILD)/tests/%.o $(call lib,testkit) $(LIB_ORDER)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group -lcmocka $(LIBS_ALL)
ifneq ($(MPI_PKG),) # else it is one rank, which has nothing to measure
$(BUILD)/tests/bench_ranks: $(BUILD)/core/base/ranks_mpi.o
$(BUILD)/tests/bench_ranks: LIBS_ALL += $(MPI_LIBS)
endif
$(FUZZ:%=$(BUILD)/tests/test_fuzz_%): $(BUILD)/tests/test_fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o \
    $(FUZZ_COMMON) $(BUILD)/tests/fuzz/replay.o $(call lib,testkit) $(LIB_ORDER)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group -lcmocka $(LIBS_ALL)
$(FUZZ:%=$(BUILD)/fuzz_%): $(BUILD)/fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o \
    $(FUZZ_COMMON) $(call lib,testkit) $(LIB_ORDER)
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group -lcmocka $(LIBS_ALL)
# Examples see the public header alone, by the name under which it is installed.
$(BUILD)/examples/convert: tests/examples/convert.c pipeline/linnet.h $(LIB_ORDER)
	@mkdir -p $(@D)
	$(Q)$(CC) $(filter-out -fvisibility%,$(CFLAGS)) $(WARN) -Ipipeline $(LDFLAGS) -o $@ $< $(LIB_ORDER) $(LIBS_ALL)
tests/%: $(BUILD)/tests/% ;
check-one: $(if $(T),$(BUILD)/tests/$(T)) ## one test program: make T=test_pgd check-one
	@tests/run.sh $(BUILD) $(T)

tests: $(TESTS) $(BUILD)/examples/convert ## build the test programs

# ---- what people type -----------------------------------------------------------
deps: ## install Debian packages (root) and the Python environment of the cross-checks
	@.ci/deps.sh $(PY_VENV)
deps-build: ## install the Debian packages (root) of a build, no Python
	@.ci/deps.sh -
demo: deps-build ## the whole path on the bundled model and data, in minutes
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@tests/demo/run.sh $(BUILD)
check: deps ## set up, build, test: unit tests, then whole runs
	@$(MAKE) --no-print-directory -j$(JOBS) all tests $(if $(MPI_PKG),$(BUILD)/linnet-mpi)
	@tests/run.sh $(BUILD)
	@tests/cli/run.sh $(BUILD)
	@$(MAKE) --no-print-directory check-install
check-unit: all tests ## the unit tests alone
	@tests/run.sh $(BUILD)
check-long: all $(if $(MPI_PKG),$(BUILD)/linnet-mpi) $(BUILD)/tests/test_ctime $(BUILD)/tests/test_server ## what takes hours: full models, floors of accuracy
	@tests/long/run.sh $(BUILD)
	@$(MAKE) --no-print-directory check-deb
zoo: all ## exports of many programs through linnet; installs PyTorch and TensorFlow in build/zoo
	@tests/long/run.sh $(BUILD) zoo
coverage: ## lines of core, importer, exporter that the unit tests execute
	@$(MAKE) --no-print-directory MODE=cov -j$(JOBS) all tests
	@tests/run.sh build/cov
	@gcovr --root . --object-directory build/cov --filter 'core/' --filter 'importer/' --filter 'exporter/' build/cov
fuzz: ## the fuzz targets with libFuzzer, in build/fuzz (needs clang)
	@$(MAKE) --no-print-directory MODE=fuzz CC=clang -j$(JOBS) fuzz-targets
fuzz-targets: $(FUZZ:%=$(BUILD)/fuzz_%)
bench: all $(BENCHES) ## timings, JSON lines: make bench BENCH="--model resnet20 --work train"
	@python3 tests/bench.py $(BUILD) $(BENCH)
bench-peers: ## install what bench compares with, PyTorch and onnxruntime, into build/peers
	@.ci/peers.sh build/peers
format: ## rewrite the sources in house style
	clang-format -i $$(git ls-files '*.c' '*.h')
layers: ## who may include whom
	@.ci/layers.sh
results: ## the tables of trainer/RESULTS.md from trainer/results.json
	python3 trainer/results.py
ci: ## everything a change must pass
	@.ci/run
ci-long: ## the heavier matrix: every test under ASan, UBSan and clang, coverage
	$(MAKE) MODE=asan check-unit
	$(MAKE) CC=clang BUILD=build/clang check-unit
	$(MAKE) coverage check-long
INSTALLED := all $(SHARED_LIBS) $(BUILD)/static/liblinnet.a $(BUILD)/static/liblinnet-pi.a $(BUILD)/manuals/man1/linnet.1
$(BUILD)/manuals/man1/linnet.1: $(BUILD)/linnet $(BUILD)/linnet-pi cli/dist/manuals.sh
	$(Q)cli/dist/manuals.sh $(BUILD)
install: $(INSTALLED) ## programs, libraries, headers, Python module into $(DESTDIR)$(PREFIX)
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" LIBDIR="$(LIBDIR)" SOVERSION=$(SOVERSION) cli/dist/install.sh $(BUILD)
uninstall: ## removes what install put there
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" LIBDIR="$(LIBDIR)" SOVERSION=$(SOVERSION) cli/dist/install.sh --remove
deb: $(INSTALLED) ## a Debian package in $(BUILD)
	@cli/dist/deb.sh $(BUILD)
check-deb: $(INSTALLED) ## the package installed, used and purged in a clean chroot; needs root, debootstrap
	@tests/deb.sh $(BUILD)
check-install: $(INSTALLED) ## staged install; examples built against it alone
	@CC="$(CC)" tests/install.sh $(BUILD)
clean: ## remove what was built in this mode
	rm -rf $(BUILD)
help: ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' Makefile | expand -t 14
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
